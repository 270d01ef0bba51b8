/* The part of ICU that Qt's core is linked against and Wine lacks: no converter is known, as Qt is told at once.
 * Put into the Wine prefix of the build only; Windows 10 has its own, and nothing of this is shipped. */
#define MISSING_RESOURCE 2 /* U_MISSING_RESOURCE_ERROR */
#define EXPORT __declspec(dllexport)

EXPORT void *ucnv_open(const char *name, int *status) { (void)name; *status = MISSING_RESOURCE; return 0; }
EXPORT void ucnv_close(void *converter) { (void)converter; }
EXPORT void ucnv_reset(void *converter) { (void)converter; }
EXPORT signed char ucnv_getMaxCharSize(const void *converter) { (void)converter; return 1; }
EXPORT const char *ucnv_getName(const void *converter, int *status)
{
    (void)converter; *status = MISSING_RESOURCE; return 0;
}
EXPORT int ucnv_countAvailable(void) { return 0; }
EXPORT const char *ucnv_getAvailableName(int n) { (void)n; return 0; }
EXPORT const char *ucnv_getStandardName(const char *name, const char *standard, int *status)
{
    (void)name; (void)standard; *status = MISSING_RESOURCE; return 0;
}

/* Asked of an open converter only, and none can be opened. */
#define NEVER(name) EXPORT int name(void) { return 0; }
NEVER(UCNV_FROM_U_CALLBACK_SUBSTITUTE)
NEVER(UCNV_TO_U_CALLBACK_SUBSTITUTE)
NEVER(ucnv_getToUCallBack)
NEVER(ucnv_getFromUCallBack)
NEVER(ucnv_setToUCallBack)
NEVER(ucnv_setFromUCallBack)
NEVER(ucnv_cbToUWriteUChars)
NEVER(ucnv_cbFromUWriteUChars)
NEVER(ucnv_toUnicode)
NEVER(ucnv_fromUnicode)
NEVER(ucnv_toUCountPending)
NEVER(ucnv_fromUCountPending)
