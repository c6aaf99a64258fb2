# Runs the tests: Windows PowerShell 5.1 and PowerShell 7, with nothing installed.
#
#   Run.ps1 [-Name PATTERN] [-Live FACTS.json]
#
# FACTS.json tells of a running server; without it, tests that need one are skipped. One line a test: "ok", "not ok" or
# "skip", and its name; lines with # belong to the test before. The exit code is the number of tests that failed.
param([string] $Name = '*', [string] $Live = $env:SEALWRIGHT_TEST_LIVE)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'
$env:SEALWRIGHT_TOKEN = $null
$env:SEALWRIGHT_URL = $null
$ModuleFolder = Split-Path -Parent $PSScriptRoot
$Facts = $null
if ($Live) {
    $Facts = ConvertFrom-Json ([IO.File]::ReadAllText($Live))
}
$Scratch = Join-Path ([IO.Path]::GetTempPath()) "sealwright-$([Guid]::NewGuid().ToString('N').Substring(0, 8))"
$null = [IO.Directory]::CreateDirectory($Scratch)
$script:Failed = 0
# a test that goes wrong is not to wait for a server that never comes
$PSDefaultParameterValues = @{ '*-Sign*:ServiceUnavailableTimeoutInSeconds' = 20 }

function Test {
    # Run one test. Its name has to be a literal on the line of the call: others list the tests by it.
    param([string] $Title, [scriptblock] $Body, [switch] $NeedsServer)
    if ($Title -notlike $Name) {
        return
    }
    if ($NeedsServer -and -not $Facts) {
        [Console]::Out.WriteLine("skip $Title")
        return
    }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    try {
        $null = & $Body
        [Console]::Out.WriteLine("ok $Title")
    }
    catch {
        $script:Failed++
        [Console]::Out.WriteLine("not ok $Title")
        foreach ($line in ("$($_.Exception.Message)`n$($_.ScriptStackTrace)" -split "`r?`n")) {
            [Console]::Out.WriteLine("# $line")
        }
    }
    [Console]::Out.WriteLine("# $($clock.ElapsedMilliseconds) ms")
}

function Assert-Equal {
    param([object] $Actual, [object] $Expected, [string] $What = 'value')
    if (-not [object]::Equals($Actual, $Expected) -and "$Actual" -cne "$Expected") {
        throw "The $What is <$Actual>, not <$Expected>."
    }
}

function Assert-True {
    param([bool] $Condition, [string] $What)
    if (-not $Condition) {
        throw "Not so: $What."
    }
}

function Assert-Fails {
    # The error record with that id which the block ends with. The block sees the variables of this function before its own.
    param([string] $ExpectedError, [scriptblock] $Attempted)
    $caught = $null
    try {
        $null = & $Attempted
    }
    catch {
        $caught = $_
    }
    if (-not $caught) {
        throw "Nothing failed where $ExpectedError should."
    }
    if ($caught.FullyQualifiedErrorId -cne $ExpectedError) {
        throw "Failed with $($caught.FullyQualifiedErrorId), not ${ExpectedError}: $($caught.Exception.Message)"
    }
    $caught
}

function New-File {
    # A scratch file with the text.
    param([string] $Leaf, [string] $Text)
    $path = Join-Path $Scratch $Leaf
    [IO.File]::WriteAllText($path, $Text)
    $path
}

function New-Path {
    # Where nothing is yet.
    Join-Path $Scratch "$([Guid]::NewGuid().ToString('N')).bin"
}

function Invoke-AndStop {
    # Run the script with the module in a runspace of its own, and stop it, as Ctrl-C does, when the condition holds.
    param([string] $Script, [hashtable] $Arguments, [scriptblock] $Until)
    $state = [Management.Automation.Runspaces.InitialSessionState]::CreateDefault2()
    foreach ($command in Get-Command -CommandType Cmdlet -ListImported) {
        if ($command.ImplementingType -and -not @($state.Commands[$command.Name]).Count) {
            $state.Commands.Add([Management.Automation.Runspaces.SessionStateCmdletEntry]::new($command.Name, $command.ImplementingType, $null))
        }
    }
    $runspace = [Management.Automation.Runspaces.RunspaceFactory]::CreateRunspace($state)
    $runspace.Open()
    $shell = [PowerShell]::Create()
    $shell.Runspace = $runspace
    $null = $shell.AddScript($Script).AddArgument((Join-Path $ModuleFolder 'Sealwright.psd1')).AddArgument($Arguments)
    $running = $shell.BeginInvoke()
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Until)) {
        if ($clock.Elapsed.TotalSeconds -gt 20 -or $running.IsCompleted) {
            throw "It never came so far: $($shell.Streams.Error) $($shell.InvocationStateInfo.Reason)"
        }
        Start-Sleep -Milliseconds 50
    }
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $shell.Stop()
    $shell.Dispose()
    $runspace.Dispose()
    $clock.Elapsed.TotalSeconds
}

try {
    . (Join-Path $PSScriptRoot 'FakeServer.ps1')
    Import-Module (Join-Path $ModuleFolder 'Sealwright.psd1') -Force
    foreach ($file in Get-ChildItem -Path $PSScriptRoot -Filter '*.Tests.ps1') {
        . $file.FullName
    }
}
finally {
    [IO.Directory]::Delete($Scratch, $true)
}
exit $script:Failed
