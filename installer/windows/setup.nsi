; The setup program for a person (wizard) and for IT (/S): for one user or for everybody, upgraded in place.
; Compiled by installer/windows/setup_program.py, which defines VERSION, NUMBERS, FROZEN, CLOSING, ICON, SIDE, LICENCE,
; OUTPUT, SIZE_KB and, when it signs, SIGN.
;
;   /S                      no questions: for everybody where the account may, else for this user
;   /ALLUSERS, /CURRENTUSER for everybody (needs an administrator), or for this user alone
;   /STARTATLOGIN           start at login, in the tray        /DESKTOP   shortcut on the desktop
;   /D=C:\folder            where to (last on the line, without quotes)
; Uninstall.exe:  /S   no questions, keeps nodes, jobs and records     /REMOVEDATA   removes this account's too
;
; Exit status: 0 done, 1 cancelled, 2 failed, 4 a running copy did not end, 5 a newer version is installed,
; 6 it was installed by the MSI, 7 files are in use, 8 administrator rights are needed.

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

!define KEY "Software\DICOM Ferry"
!define RUN_KEY "Software\Microsoft\Windows\CurrentVersion\Run"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\DICOM Ferry"
!define WINDOW "DICOM Ferry.exe"
!define CONSOLE "dicom-ferry.exe"
!define WAIT_SECONDS 90

!define STILL_RUNNING 4
!define NEWER_INSTALLED 5
!define OTHER_INSTALLER 6
!define FILES_IN_USE 7
!define NEEDS_ADMINISTRATOR 8

Var Everybody ; 1: for all users
Var Administrator ; 1: may install for all users
Var ForEverybody ; radio buttons
Var ForMe

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
    SetErrorLevel ${FILES_IN_USE}
    MessageBox MB_OK|MB_ICONSTOP "Files in $INSTDIR are in use by another program. Close it (or restart the computer), then try again." /SD IDOK
    Quit
  ${EndIf}
FunctionEnd
!macroend
!insertmacro Closing ""
!insertmacro Closing "un."

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
SectionEnd

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
FunctionEnd

LangString AboutProgram ${LANG_ENGLISH} "The window and the commands."
LangString AboutAtLogin ${LANG_ENGLISH} "It begins in the tray, near the clock, and goes on with its jobs."
LangString AboutDesktop ${LANG_ENGLISH} "A second shortcut, beside the one in the start menu."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${Program} $(AboutProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${AtLogin} $(AboutAtLogin)
  !insertmacro MUI_DESCRIPTION_TEXT ${Desktop} $(AboutDesktop)
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

Section /o "un.Nodes, jobs, passwords and records" unData
  DetailPrint "Removing what is kept for this account ..."
  nsExec::Exec '"$INSTDIR\${CONSOLE}" remove-data --yes'
  Pop $0
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
