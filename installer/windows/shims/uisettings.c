/* Windows.UI.ViewManagement.UISettings for Wine, which lacks it: Qt asks it for the desktop's colours when it starts.
 * Put into the Wine prefix of the build only; real Windows has its own, and nothing of this is shipped.
 * Interfaces as in Microsoft's documentation of IActivationFactory and IUISettings3. */
#include <windows.h>

typedef struct { const void *table; } Object;
typedef struct { BYTE alpha, red, green, blue; } Colour;

static const GUID of_unknown = {0x00000000, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}};
static const GUID of_inspectable = {0xAF86E2E0, 0xB12D, 0x4C6A, {0x9C, 0x5A, 0xD7, 0xAA, 0x65, 0x10, 0x1E, 0x90}};
static const GUID of_factory = {0x00000035, 0, 0, {0xC0, 0, 0, 0, 0, 0, 0, 0x46}};
static const GUID of_settings = {0x85361600, 0x1C63, 0x4627, {0xBC, 0xB1, 0x3A, 0x89, 0xE0, 0xBC, 0x9C, 0x55}};
static const GUID of_settings3 = {0x03021BE4, 0x5254, 0x4781, {0x81, 0x94, 0x51, 0x68, 0xF7, 0xD0, 0x6D, 0x7B}};

static Object factory, settings, settings3;

static HRESULT WINAPI query(Object *self, const GUID *wanted, void **out)
{
    if (IsEqualGUID(wanted, &of_unknown) || IsEqualGUID(wanted, &of_inspectable)) *out = self;
    else if (IsEqualGUID(wanted, &of_factory) && self == &factory) *out = &factory;
    else if (IsEqualGUID(wanted, &of_settings) && self != &factory) *out = &settings;
    else if (IsEqualGUID(wanted, &of_settings3) && self != &factory) *out = &settings3;
    else { *out = NULL; return E_NOINTERFACE; }
    return S_OK;
}

/* The three objects last as long as the program. */
static ULONG WINAPI count(Object *self) { (void)self; return 1; }
static HRESULT WINAPI nothing(Object *self, void *a, void *b, void *c)
{
    (void)self; (void)a; (void)b; (void)c;
    return E_NOTIMPL;
}

static HRESULT WINAPI activate(Object *self, void **out) { (void)self; *out = &settings; return S_OK; }

/* UIColorType: 0 background, 1 foreground, 2 to 8 the accent from dark to light. */
static HRESULT WINAPI colour(Object *self, int type, Colour *out)
{
    Colour white = {255, 255, 255, 255}, black = {255, 0, 0, 0}, accent = {255, 0, 120, 215};
    (void)self;
    *out = type == 0 ? white : type == 1 ? black : accent;
    return S_OK;
}

static HRESULT WINAPI added(Object *self, void *handler, INT64 *token)
{
    (void)self; (void)handler;
    *token = 1;
    return S_OK;
}

static HRESULT WINAPI removed(Object *self, INT64 token) { (void)self; (void)token; return S_OK; }

static const void *const factory_table[] = {query, count, count, nothing, nothing, nothing, activate};
static const void *const settings_table[] = {query, count, count, nothing, nothing, nothing, nothing, nothing, nothing,
    nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing};
static const void *const settings3_table[] = {query, count, count, nothing, nothing, nothing, colour, added, removed};
static Object factory = {factory_table}, settings = {settings_table}, settings3 = {settings3_table};

__declspec(dllexport) HRESULT WINAPI DllGetActivationFactory(void *name, void **out)
{
    (void)name;
    *out = &factory;
    return S_OK;
}
