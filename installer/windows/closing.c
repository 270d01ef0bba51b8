/* What both installers do before they touch a file: ask running copies to end, wait, and tell who still runs.
 *
 * Each copy of DICOM Ferry listens to an event of its own, Global\DICOM-Ferry-end-<process id>
 * (core/asked_to_end.py); once it is set, the copy settles the images on their way and ends. Nobody is killed.
 *
 * CloseCopies(folder, seconds)       for the setup program: how many copies from this folder still run
 * CloseRunning(MSIHANDLE)            for Windows Installer: the same for INSTALLFOLDER, with a message
 *   Both switch the start-up task off first, or it would start the engine again meanwhile; and on again, where copies
 *   go on running. The installation itself switches it on.
 * SwitchTask(on)                     for the setup program: the same by itself, where it fails later
 * SwitchTaskOn(MSIHANDLE)            for Windows Installer: the same, when it takes back what it did
 * AskAboutData(MSIHANDLE)            for Windows Installer: on an uninstall that shows itself, sets REMOVEDATA
 */
#include <windows.h>
#include <tlhelp32.h>
#include <msi.h>
#include <msiquery.h>
#include <stdio.h>
#include <wchar.h>

#define WAIT_SECONDS 90
#define LOOK_MILLISECONDS 200
#define MOST_COPIES 256

static BOOL is_ours(const WCHAR *name)
{
    return _wcsicmp(name, L"DICOM Ferry.exe") == 0 || _wcsicmp(name, L"dicom-ferry.exe") == 0;
}

/* Whether a process runs from the folder. Of one that can't be looked at (another user's) only the name is known. */
static BOOL runs_from(DWORD process, const WCHAR *folder)
{
    WCHAR path[32768];
    DWORD length = sizeof path / sizeof *path;
    size_t wanted = wcslen(folder);
    BOOL known;
    HANDLE handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, process);
    if (!handle) return TRUE;
    known = QueryFullProcessImageNameW(handle, 0, path, &length);
    CloseHandle(handle);
    if (!known) return TRUE;
    while (wanted && folder[wanted - 1] == L'\\') wanted--;
    return _wcsnicmp(path, folder, wanted) == 0 && path[wanted] == L'\\';
}

static void ask(DWORD process)
{
    WCHAR name[64];
    HANDLE event;
    _snwprintf(name, sizeof name / sizeof *name, L"Global\\DICOM-Ferry-end-%lu", process);
    event = OpenEventW(EVENT_MODIFY_STATE, FALSE, name);
    if (event) {
        SetEvent(event);
        CloseHandle(event);
    }
}

/* Ask each copy once; how many there are, and the session of the last one. */
static int look(const WCHAR *folder, DWORD *asked, int *known, DWORD *session)
{
    int found = 0, i;
    PROCESSENTRY32W entry = {.dwSize = sizeof entry};
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    BOOL more;
    if (all == INVALID_HANDLE_VALUE) return 0;
    for (more = Process32FirstW(all, &entry); more; more = Process32NextW(all, &entry)) {
        DWORD process = entry.th32ProcessID;
        if (process == GetCurrentProcessId() || !is_ours(entry.szExeFile) || !runs_from(process, folder)) continue;
        found++;
        ProcessIdToSessionId(process, session);
        for (i = 0; i < *known && asked[i] != process; i++) {}
        if (i == *known && *known < MOST_COPIES) {
            asked[(*known)++] = process;
            ask(process);
        }
    }
    CloseHandle(all);
    return found;
}

/* Whether an unattended engine was chosen at an earlier installation. */
static BOOL has_task(void)
{
    WCHAR value[8];
    DWORD size = sizeof value;
    return RegGetValueW(HKEY_LOCAL_MACHINE, L"Software\\DICOM Ferry", L"Unattended", RRF_RT_REG_SZ | RRF_SUBKEY_WOW6464KEY,
                        NULL, value, &size) == ERROR_SUCCESS;
}

static void switch_task(BOOL on)
{
    WCHAR line[] = L"schtasks.exe /Change /TN \"DICOM Ferry unattended engine\" /DISABLE";
    STARTUPINFOW how = {.cb = sizeof how};
    PROCESS_INFORMATION made;
    if (!has_task()) return;
    if (on) wcscpy(wcsrchr(line, L'/'), L"/ENABLE");
    if (!CreateProcessW(NULL, line, NULL, NULL, FALSE, CREATE_NO_WINDOW, NULL, NULL, &how, &made)) return;
    WaitForSingleObject(made.hProcess, 15000);
    CloseHandle(made.hThread);
    CloseHandle(made.hProcess);
}

static int close_copies(const WCHAR *folder, int seconds, DWORD *session)
{
    DWORD asked[MOST_COPIES];
    int known = 0, found;
    ULONGLONG until = GetTickCount64() + (ULONGLONG)seconds * 1000;
    if (!*folder) return 0;
    switch_task(FALSE);
    while ((found = look(folder, asked, &known, session)) != 0 && GetTickCount64() < until) Sleep(LOOK_MILLISECONDS);
    if (found) switch_task(TRUE);
    return found;
}

__declspec(dllexport) int SwitchTask(int on)
{
    switch_task(on);
    return 0;
}

__declspec(dllexport) UINT WINAPI SwitchTaskOn(MSIHANDLE install)
{
    (void)install;
    switch_task(TRUE);
    return ERROR_SUCCESS;
}

__declspec(dllexport) int CloseCopies(const WCHAR *folder, int seconds)
{
    DWORD session = 0;
    return close_copies(folder, seconds, &session);
}

static void property(MSIHANDLE install, const WCHAR *name, WCHAR *value, DWORD size)
{
    *value = 0;
    if (MsiGetPropertyW(install, name, value, &size) != ERROR_SUCCESS) *value = 0;
}

static int say(MSIHANDLE install, INSTALLMESSAGE how, const WCHAR *text)
{
    int answer;
    MSIHANDLE record = MsiCreateRecord(0);
    MsiRecordSetStringW(record, 0, text);
    answer = MsiProcessMessage(install, how, record);
    MsiCloseHandle(record);
    return answer;
}

__declspec(dllexport) UINT WINAPI CloseRunning(MSIHANDLE install)
{
    static const WCHAR *const folders[] = {L"INSTALLFOLDER", L"INSTALLEDBEFORE"};
    WCHAR folder[MAX_PATH * 4], text[512];
    DWORD session = 0, own = 0;
    int i, still;
    for (i = 0; i < 2; i++) {
        property(install, folders[i], folder, sizeof folder / sizeof *folder);
        still = close_copies(folder, WAIT_SECONDS, &session);
        if (!still) continue;
        ProcessIdToSessionId(GetCurrentProcessId(), &own);
        _snwprintf(text, sizeof text / sizeof *text,
            L"DICOM-FERRY-RUNNING: %d cop%ls of DICOM Ferry still run%ls (session %lu%ls) and did not end within %d "
            L"seconds. Nothing was changed. End it there (its icon near the clock, Quit safely), then try again.",
            still, still == 1 ? L"y" : L"ies", still == 1 ? L"s" : L"", session,
            session == own ? L"" : L", which is another user's", WAIT_SECONDS);
        text[sizeof text / sizeof *text - 1] = 0;
        say(install, INSTALLMESSAGE_ERROR, text);
        return ERROR_INSTALL_FAILURE;
    }
    return ERROR_SUCCESS;
}

__declspec(dllexport) UINT WINAPI AskAboutData(MSIHANDLE install)
{
    WCHAR level[16], chosen[16];
    property(install, L"UILevel", level, sizeof level / sizeof *level);
    property(install, L"REMOVEDATA", chosen, sizeof chosen / sizeof *chosen);
    if (*chosen || _wtoi(level) < INSTALLUILEVEL_BASIC) return ERROR_SUCCESS;
    if (say(install, INSTALLMESSAGE_USER | MB_YESNO | MB_ICONQUESTION | MB_DEFBUTTON2,
            L"Delete what DICOM Ferry keeps for you as well: nodes, jobs, passwords, the record of what was sent, and "
            L"images received here that were not yet passed on?\n\nThis can't be undone. With No, everything is there "
            L"again after the next installation.") == IDYES)
        MsiSetPropertyW(install, L"REMOVEDATA", L"1");
    return ERROR_SUCCESS;
}
