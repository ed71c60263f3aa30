*** Comments ***
The variables come from the command line: see README.md beside this file.

*** Variables ***
${VECTORS}                          0x08000000
${UART}                             sysbus.vcp
${READY}                            m-ready

*** Keywords ***
Boot The Project
    Execute Command                 mach create "project"
    Execute Command                 machine LoadPlatformDescription @${PLATFORM}
    Execute Command                 sysbus LoadELF @${ELF}
    Execute Command                 cpu VectorTableOffset ${VECTORS}
    Create Terminal Tester          ${UART}  timeout=30
    Start Emulation
    Wait For Line On Uart           ${READY}

Send
    [Arguments]                     ${command}
    Write To Uart                   ${command}%

*** Test Cases ***
Should Boot And Say Its Name
    Boot The Project
    Send                            name
    Wait For Line On Uart           m-name-dut-[
    Wait For Line On Uart           ${READY}

Should Know What It Is
    Boot The Project
    Send                            hil id
    Wait For Line On Uart           renode-instructions
    Wait For Line On Uart           ${READY}

Should Run An Inference
    Boot The Project
    Send                            hil run 1 0
    Wait For Line On Uart           m-hil-run-[
    Wait For Line On Uart           ${READY}
