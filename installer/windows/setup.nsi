; The setup program for a person (wizard) and for IT (/S): for one user or for everybody, upgraded in place.
; Compiled by installer/windows/setup_program.py, which defines VERSION, NUMBERS, FROZEN, CLOSING, ICON, SIDE, LICENCE,
; OUTPUT, SIZE_KB and, when it signs, SIGN.
;
;   /S                      no questions: for everybody where the account may, else for this user
;   /ALLUSERS, /CURRENTUSER for everybody (needs an administrator), or for this user alone
;   /STARTATLOGIN           start at login, in the tray        /DESKTOP   shortcut on the desktop
;   /UNATTENDED[=account]   runs with nobody logged in, by a start-up task (needs an administrator, implies /ALLUSERS);
;                           account LocalService or NetworkService, by default as before or LocalService
;   /D=C:\folder            where to (last on the line, without quotes)
; Uninstall.exe:  /S   no questions, keeps nodes, jobs and records     /REMOVEDATA   removes this account's too, and those
;                      of the unattended engine
;
; Exit status: 0 done, 1 cancelled, 2 failed, 4 a running copy did not end, 5 a newer version is installed,
; 6 it was installed by the MSI, 7 files are in use, 8 administrator rights are needed, 9 it was installed, but the
; start-up task of the unattended engine was not.

Target amd64-unicode
Unicode true
ManifestDPIAware true
!ifdef QUICK
  SetCompressor zlib
!else
  SetCompressor /SOLID lzma
  SetCompressorDictSize 32
!endif
RequestExecutionLevel highest
Name "DICOM Ferry"
OutFile "${OUTPUT}"
BrandingText "DICOM Ferry ${VERSION}"
ShowInstDetails nevershow
ShowUninstDetails nevershow

VIProductVersion "${NUMBERS}"
VIAddVersionKey ProductName "DICOM Ferry"
VIAddVersionKey FileDescription "DICOM Ferry setup"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey CompanyName "DICOM Ferry contributors"
VIAddVersionKey LegalCopyright "DICOM Ferry contributors"

!include MUI2.nsh
!include nsDialogs.nsh
!include LogicLib.nsh
!include FileFunc.nsh
!include WordFunc.nsh
!include x64.nsh
!include "Win\COM.nsh"
!include "Win\Propkey.nsh"

!define KEY "Software\DICOM Ferry"
!define RUN_KEY "Software\Microsoft\Windows\CurrentVersion\Run"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\DICOM Ferry"
!define WINDOW "DICOM Ferry.exe"
!define CONSOLE "dicom-ferry.exe"
!define WAIT_SECONDS 90
!define APP_ID "DICOMFerry.DICOMFerry"

!define STILL_RUNNING 4
!define NEWER_INSTALLED 5
!define OTHER_INSTALLER 6
!define FILES_IN_USE 7
!define NEEDS_ADMINISTRATOR 8
!define UNATTENDED_FAILED 9

Var Everybody ; 1: for all users
Var Administrator ; 1: may install for all users
Var ForEverybody ; radio buttons
Var ForMe
Var UnattendedAccount ; as given with /UNATTENDED=

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_WELCOMEFINISHPAGE_BITMAP "${SIDE}"
!define MUI_ABORTWARNING
!define MUI_WELCOMEPAGE_TEXT "DICOM Ferry carries imaging studies from one place to another, and proves that every image arrived.$\r$\n$\r$\nA copy that is running is asked to finish the images on their way and to end; what is left goes on after the installation. Nodes, jobs and records are kept.$\r$\n$\r$\n$_CLICK"
!define MUI_FINISHPAGE_RUN
!define MUI_FINISHPAGE_RUN_TEXT "Start DICOM Ferry"
!define MUI_FINISHPAGE_RUN_FUNCTION StartProgram

!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "${LICENCE}"
Page custom AskForWhom TakeForWhom
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE English

!ifdef SIGN
  !uninstfinalize '${SIGN} "%1"' = 0
!endif

; --- for whom, and where

!macro ForWhom
  ${If} $Everybody = 1
    SetShellVarContext all
  ${Else}
    SetShellVarContext current
  ${EndIf}
!macroend

!macro DefaultFolder
  !insertmacro ForWhom
  ; SHCTX is HKLM or HKCU, as the context says.
  ReadRegStr $0 SHCTX "${KEY}" InstallFolder
  ${If} $0 != ""
    StrCpy $INSTDIR $0
  ${ElseIf} $Everybody = 1
    StrCpy $INSTDIR "$PROGRAMFILES64\DICOM Ferry"
  ${Else}
    StrCpy $INSTDIR "$LOCALAPPDATA\Programs\DICOM Ferry"
  ${EndIf}
!macroend

Function .onInit
  SetRegView 64
  ${IfNot} ${RunningX64}
    MessageBox MB_OK|MB_ICONSTOP "DICOM Ferry needs a 64-bit Windows 10 or 11." /SD IDOK
    SetErrorLevel 2
    Quit
  ${EndIf}
  StrCpy $Administrator 0
  UserInfo::GetAccountType
  Pop $0
  ${If} $0 == "Admin"
    StrCpy $Administrator 1
  ${EndIf}

  ReadRegStr $0 HKLM "${KEY}" Installer
  ${If} $0 == "msi"
    MessageBox MB_OK|MB_ICONSTOP "DICOM Ferry was installed by your IT department's package (MSI). It is upgraded and uninstalled by that." /SD IDOK
    SetErrorLevel ${OTHER_INSTALLER}
    Quit
  ${EndIf}

  ; As it was installed before; else for everybody where the account may.
  StrCpy $Everybody $Administrator
  ReadRegStr $1 HKCU "${KEY}" Installer
  ${If} $1 == "setup"
  ${AndIf} $0 == ""
    StrCpy $Everybody 0
  ${EndIf}
  ${GetParameters} $2
  ClearErrors
  ${GetOptions} $2 "/CURRENTUSER" $3
  ${IfNot} ${Errors}
    StrCpy $Everybody 0
  ${EndIf}
  ClearErrors
  ${GetOptions} $2 "/ALLUSERS" $3
  ${If} ${Errors}
    ClearErrors
    ${GetOptions} $2 "/UNATTENDED" $3
  ${EndIf}
  ${IfNot} ${Errors}
    ${If} $Administrator = 0
      MessageBox MB_OK|MB_ICONSTOP "Only an administrator can install DICOM Ferry for everybody." /SD IDOK
      SetErrorLevel ${NEEDS_ADMINISTRATOR}
      Quit
    ${EndIf}
    StrCpy $Everybody 1
  ${EndIf}
  StrCpy $4 $INSTDIR ; from /D=
  !insertmacro DefaultFolder
  ${If} $4 != ""
    StrCpy $INSTDIR $4
  ${EndIf}
  Call RefuseDowngrade
  Call ChooseParts
FunctionEnd

Function RefuseDowngrade
  ReadRegStr $0 SHCTX "${KEY}" Version
  ${If} $0 != ""
    ${VersionCompare} "$0" "${VERSION}" $1
    ${If} $1 = 1
      MessageBox MB_OK|MB_ICONSTOP "DICOM Ferry $0 is installed, which is newer than ${VERSION}." /SD IDOK
      SetErrorLevel ${NEWER_INSTALLED}
      Quit
    ${EndIf}
  ${EndIf}
FunctionEnd

Function AskForWhom
  ${If} $Administrator = 0
    Abort ; there is no choice: the page is left out
  ${EndIf}
  !insertmacro MUI_HEADER_TEXT "For whom" "Who uses DICOM Ferry on this computer?"
  nsDialogs::Create 1018
  Pop $0
  ${NSD_CreateRadioButton} 0 10u 100% 12u "&Everybody who uses this computer"
  Pop $ForEverybody
  ${NSD_CreateRadioButton} 0 28u 100% 12u "&Only me"
  Pop $ForMe
  ${NSD_CreateLabel} 0 56u 100% 30u "Nodes, jobs and records are kept for each person apart, whichever you choose."
  Pop $0
  ${If} $Everybody = 1
    ${NSD_Check} $ForEverybody
  ${Else}
    ${NSD_Check} $ForMe
  ${EndIf}
  nsDialogs::Show
FunctionEnd

Function TakeForWhom
  ${NSD_GetState} $ForEverybody $0
  ${If} $0 = ${BST_CHECKED}
    StrCpy $Everybody 1
  ${Else}
    StrCpy $Everybody 0
  ${EndIf}
  !insertmacro DefaultFolder
  Call RefuseDowngrade
  Call OfferUnattended
FunctionEnd

; --- running copies

!macro Closing un
Function ${un}CloseCopies
  InitPluginsDir
  File "/oname=$PLUGINSDIR\closing.dll" "${CLOSING}"
  again:
  DetailPrint "Asking running copies to finish what is on its way and to end ..."
  System::Call '$PLUGINSDIR\closing.dll::CloseCopies(w "$INSTDIR", i ${WAIT_SECONDS}) i .r0'
  ${If} $0 != 0
    MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "DICOM Ferry is still running ($0), perhaps in another user's session.$\r$\n$\r$\nEnd it there (its icon near the clock, Quit safely), then try again. Nothing was changed yet." /SD IDCANCEL IDRETRY again
    SetErrorLevel ${STILL_RUNNING}
    Quit
  ${EndIf}
FunctionEnd

; What an older version brought; an antivirus program may hold a file for a moment.
Function ${un}RemoveFiles
  StrCpy $1 0
  again:
  ClearErrors
  Delete "$INSTDIR\${WINDOW}"
  Delete "$INSTDIR\${CONSOLE}"
  ${If} ${FileExists} "$INSTDIR\_internal\*.*"
    RMDir /r "$INSTDIR\_internal"
  ${EndIf}
  ${If} ${Errors}
    IntOp $1 $1 + 1
    Sleep 500
    IntCmp $1 20 0 again
    System::Call '$PLUGINSDIR\closing.dll::SwitchTask(i 1)'
    SetErrorLevel ${FILES_IN_USE}
    MessageBox MB_OK|MB_ICONSTOP "Files in $INSTDIR are in use by another program. Close it (or restart the computer), then try again." /SD IDOK
    Quit
  ${EndIf}
FunctionEnd
!macroend
!insertmacro Closing ""
!insertmacro Closing "un."

; A shortcut with the identity that the program has on the taskbar (System.AppUserModel.ID).
!macro Identify FILE
  !insertmacro ComHlpr_CreateInProcInstance ${CLSID_ShellLink} ${IID_IShellLink} r0 ""
  ${If} $0 P<> 0
    ${IUnknown::QueryInterface} $0 '("${IID_IPersistFile}",.r1)'
    ${If} $1 P<> 0
      ${IPersistFile::Load} $1 '("${FILE}",${STGM_READWRITE})'
      ${IUnknown::QueryInterface} $0 '("${IID_IPropertyStore}",.r2)'
      ${If} $2 P<> 0
        System::Call 'Oleaut32::SysAllocString(w "${APP_ID}") p.r3'
        System::Call '*${SYSSTRUCT_PROPERTYKEY}(${PKEY_AppUserModel_ID})p.r4'
        System::Call '*${SYSSTRUCT_PROPVARIANT}(${VT_BSTR},,r3)p.r5'
        ${IPropertyStore::SetValue} $2 '($4,$5)'
        ${IPropertyStore::Commit} $2 ""
        System::Call 'Oleaut32::SysFreeString(p r3)'
        System::Free $4
        System::Free $5
        ${IUnknown::Release} $2 ""
        ${IPersistFile::Save} $1 '("${FILE}",1)'
      ${EndIf}
      ${IUnknown::Release} $1 ""
    ${EndIf}
    ${IUnknown::Release} $0 ""
  ${EndIf}
!macroend

; --- install

Section "DICOM Ferry" Program
  SectionIn RO
  SetRegView 64
  !insertmacro ForWhom
  Call CloseCopies
  Call RemoveFiles
  SetOutPath "$INSTDIR"
  File /r "${FROZEN}/*"
  WriteUninstaller "$INSTDIR\Uninstall.exe"
  CreateShortcut "$SMPROGRAMS\DICOM Ferry.lnk" "$INSTDIR\${WINDOW}"
  !insertmacro Identify "$SMPROGRAMS\DICOM Ferry.lnk"
  WriteRegStr SHCTX "${KEY}" Installer "setup"
  WriteRegStr SHCTX "${KEY}" InstallFolder "$INSTDIR"
  WriteRegStr SHCTX "${KEY}" Version "${VERSION}"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" DisplayName "DICOM Ferry"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" DisplayVersion "${VERSION}"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" DisplayIcon "$INSTDIR\${WINDOW}"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" Publisher "DICOM Ferry contributors"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" InstallLocation "$INSTDIR"
  WriteRegStr SHCTX "${UNINSTALL_KEY}" UninstallString '"$INSTDIR\Uninstall.exe"'
  WriteRegStr SHCTX "${UNINSTALL_KEY}" QuietUninstallString '"$INSTDIR\Uninstall.exe" /S'
  WriteRegDWORD SHCTX "${UNINSTALL_KEY}" EstimatedSize ${SIZE_KB}
  WriteRegDWORD SHCTX "${UNINSTALL_KEY}" NoModify 1
  WriteRegDWORD SHCTX "${UNINSTALL_KEY}" NoRepair 1
SectionEnd

Section /o "Start when I log in" AtLogin
  WriteRegStr SHCTX "${RUN_KEY}" "DICOM Ferry" '"$INSTDIR\${WINDOW}" --in-tray'
SectionEnd

Section /o "Shortcut on the desktop" Desktop
  CreateShortcut "$DESKTOP\DICOM Ferry.lnk" "$INSTDIR\${WINDOW}"
  !insertmacro Identify "$DESKTOP\DICOM Ferry.lnk"
SectionEnd

; By the program itself, which knows task, account and home; what it says is in the log of the setup.
Section /o "Unattended engine" Unattended
  ${If} $Everybody = 1
    DetailPrint "Setting up the start-up task ..."
    StrCpy $0 '"$INSTDIR\${CONSOLE}" service install'
    ${If} $UnattendedAccount != ""
      StrCpy $0 '$0 --account "$UnattendedAccount"'
    ${EndIf}
    nsExec::ExecToStack '$0'
    Pop $0
    Pop $1
    DetailPrint "$1"
    ${If} $0 == 0
      WriteRegStr HKLM "${KEY}" Unattended "1"
    ${Else}
      SetErrorLevel ${UNATTENDED_FAILED}
      MessageBox MB_OK|MB_ICONEXCLAMATION "DICOM Ferry is installed, but it will not run with nobody logged in: the start-up task could not be set up.$\r$\n$\r$\n$1" /SD IDOK
    ${EndIf}
  ${EndIf}
SectionEnd

; It was chosen before and is not any more.
Section "-No task"
  ReadRegStr $0 HKLM "${KEY}" Unattended
  ${If} $0 != ""
  ${AndIf} $Everybody = 1
  ${AndIfNot} ${SectionIsSelected} ${Unattended}
    nsExec::ExecToStack '"$INSTDIR\${CONSOLE}" service remove'
    Pop $0
    Pop $1
    DetailPrint "$1"
    DeleteRegValue HKLM "${KEY}" Unattended
  ${EndIf}
SectionEnd

; It is for the computer: not where one person installs it alone.
Function OfferUnattended
  ${If} $Everybody = 1
    !insertmacro ClearSectionFlag ${Unattended} ${SF_RO}
  ${Else}
    !insertmacro UnselectSection ${Unattended}
    !insertmacro SetSectionFlag ${Unattended} ${SF_RO}
  ${EndIf}
FunctionEnd

; As chosen on the command line, or as it was at the last installation.
Function ChooseParts
  ${GetParameters} $2
  ClearErrors
  ${GetOptions} $2 "/STARTATLOGIN" $3
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${AtLogin}
  ${EndIf}
  ReadRegStr $0 SHCTX "${RUN_KEY}" "DICOM Ferry"
  ${If} $0 != ""
    !insertmacro SelectSection ${AtLogin}
  ${EndIf}
  ClearErrors
  ${GetOptions} $2 "/DESKTOP" $3
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${Desktop}
  ${EndIf}
  ${If} ${FileExists} "$DESKTOP\DICOM Ferry.lnk"
    !insertmacro SelectSection ${Desktop}
  ${EndIf}
  ClearErrors
  ${GetOptions} $2 "/UNATTENDED" $3
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${Unattended}
    StrCpy $4 $3 1
    ${If} $4 == "="
      StrCpy $UnattendedAccount $3 "" 1
    ${EndIf}
  ${EndIf}
  ReadRegStr $0 HKLM "${KEY}" Unattended
  ${If} $0 != ""
  ${AndIf} $Everybody = 1
    !insertmacro SelectSection ${Unattended}
  ${EndIf}
  Call OfferUnattended
FunctionEnd

; What failed or was cancelled must not leave the start-up task switched off.
Function .onInstFailed
  IfFileExists "$PLUGINSDIR\closing.dll" 0 +2
  System::Call '$PLUGINSDIR\closing.dll::SwitchTask(i 1)'
FunctionEnd

LangString AboutProgram ${LANG_ENGLISH} "The window and the commands."
LangString AboutAtLogin ${LANG_ENGLISH} "It begins in the tray, near the clock, and goes on with its jobs."
LangString AboutUnattended ${LANG_ENGLISH} "A start-up task carries out the jobs of the computer under an account of its own, with nobody logged in. For everybody only."
LangString AboutDesktop ${LANG_ENGLISH} "A second shortcut, beside the one in the start menu."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${Program} $(AboutProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${AtLogin} $(AboutAtLogin)
  !insertmacro MUI_DESCRIPTION_TEXT ${Desktop} $(AboutDesktop)
  !insertmacro MUI_DESCRIPTION_TEXT ${Unattended} $(AboutUnattended)
!insertmacro MUI_FUNCTION_DESCRIPTION_END

; By the desktop, so that it runs with the person's own rights and not with the setup's.
Function StartProgram
  Exec '"$WINDIR\explorer.exe" "$INSTDIR\${WINDOW}"'
FunctionEnd

; --- uninstall

Section "un.DICOM Ferry" unProgram
  SectionIn RO
  Call un.CloseCopies
SectionEnd

Section /o "un.Nodes, jobs and records" unData
  DetailPrint "Removing what is kept for this account ..."
  nsExec::Exec '"$INSTDIR\${CONSOLE}" remove-data --yes'
  Pop $0
SectionEnd

Section "-un.Task"
  SetRegView 64
  ReadRegStr $0 HKLM "${KEY}" Unattended
  ${If} $0 != ""
  ${AndIf} $Everybody = 1
    DetailPrint "Removing the start-up task ..."
    StrCpy $1 '"$INSTDIR\${CONSOLE}" service remove'
    ${If} ${SectionIsSelected} ${unData}
      StrCpy $1 '$1 --remove-data --yes'
    ${EndIf}
    nsExec::ExecToStack '$1'
    Pop $0
    Pop $1
    DetailPrint "$1"
    ${If} $0 != 0
      MessageBox MB_OK|MB_ICONEXCLAMATION "The start-up task “DICOM Ferry unattended engine” could not be removed. Remove it in Task Scheduler.$\r$\n$\r$\n$1" /SD IDOK
    ${EndIf}
  ${EndIf}
SectionEnd

Section "-un.Files"
  SetRegView 64
  !insertmacro ForWhom
  Call un.RemoveFiles
  Delete "$SMPROGRAMS\DICOM Ferry.lnk"
  Delete "$DESKTOP\DICOM Ferry.lnk"
  DeleteRegValue SHCTX "${RUN_KEY}" "DICOM Ferry"
  DeleteRegKey SHCTX "${UNINSTALL_KEY}"
  DeleteRegKey SHCTX "${KEY}"
  Delete "$INSTDIR\Uninstall.exe"
  RMDir "$INSTDIR"
SectionEnd

Function un.onInit
  SetRegView 64
  ReadRegStr $0 HKLM "${KEY}" InstallFolder
  StrCpy $Everybody 0
  ${If} $0 == $INSTDIR
    StrCpy $Everybody 1
  ${EndIf}
  !insertmacro ForWhom
  ${GetParameters} $2
  ClearErrors
  ${GetOptions} $2 "/REMOVEDATA" $3
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${unData}
  ${EndIf}
FunctionEnd

LangString AboutUnProgram ${LANG_ENGLISH} "The program itself."
LangString AboutUnData ${LANG_ENGLISH} "What is kept for you: nodes, jobs, passwords, the record of what was sent, and images received here that were not yet passed on. This can't be undone."
!insertmacro MUI_UNFUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${unProgram} $(AboutUnProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${unData} $(AboutUnData)
!insertmacro MUI_UNFUNCTION_DESCRIPTION_END
