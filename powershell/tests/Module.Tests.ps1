# The module as such: what it exports, its help, and that Windows PowerShell 5.1 can read it.

$Commands = 'Get-SignedArtifact', 'Get-SigningRequest', 'Stop-SigningRequest', 'Submit-SigningRequest', 'Wait-SigningRequest'
$Sources = @(Get-ChildItem -Path $ModuleFolder -Recurse | Where-Object { $_.Name -match '\.ps[md]?1$' })

Test 'the manifest is valid and exports the commands' {
    $manifest = Test-ModuleManifest (Join-Path $ModuleFolder 'Sealwright.psd1')
    Assert-Equal (($manifest.ExportedFunctions.Keys | Sort-Object) -join ' ') ($Commands -join ' ')
    Assert-Equal ([string] $manifest.PowerShellVersion) '5.1'
    Assert-Equal (($manifest.CompatiblePSEditions | Sort-Object) -join ' ') 'Core Desktop'
    Assert-Equal ((Get-Command -Module Sealwright | ForEach-Object Name | Sort-Object) -join ' ') ($Commands -join ' ')
}

Test 'the manifest lists every file of the module' {
    $data = Import-PowerShellDataFile (Join-Path $ModuleFolder 'Sealwright.psd1')
    $there = foreach ($file in Get-ChildItem -Path $ModuleFolder -Recurse | Where-Object { -not $_.PSIsContainer }) {
        $path = $file.FullName.Substring($ModuleFolder.Length + 1).Replace('\', '/')
        if ($path -notlike 'tests/*') {
            $path
        }
    }
    Assert-Equal (($there | Sort-Object) -join ' ') (($data.FileList | Sort-Object) -join ' ')
}

function Get-HelpText {
    param([object] $Help, [string] $Property)
    if ($Help.PSObject.Properties[$Property]) {
        (@($Help.$Property) | ForEach-Object { $_.Text }) -join ' '
    }
    else {
        ''
    }
}

Test 'every command and every parameter has its help' {
    $own = [Management.Automation.PSCmdlet]::CommonParameters + [Management.Automation.PSCmdlet]::OptionalCommonParameters
    foreach ($command in $Commands) {
        $help = Get-Help $command -Full
        Assert-True ($help.Synopsis.Trim().EndsWith('.')) "$command has a synopsis"
        Assert-True ((Get-HelpText $help 'description').Length -gt 60) "$command has a description"
        Assert-True (@($help.examples.example).Count -ge 1) "$command has an example"
        foreach ($name in (Get-Command $command).Parameters.Keys | Where-Object { $_ -notin $own }) {
            $text = Get-HelpText (Get-Help $command -Parameter $name) 'description'
            Assert-True ($text.Length -gt 10) "$command -$name is documented"
        }
    }
}

Test 'the help names no parameter that is not there' {
    foreach ($command in $Commands) {
        $text = (Get-Command $command).ScriptBlock.ToString()
        $known = (Get-Command $command).Parameters.Keys
        foreach ($match in [regex]::Matches($text, '(?m)^\s*\.PARAMETER (\w+)')) {
            Assert-True ($match.Groups[1].Value -in $known) "$command has -$($match.Groups[1].Value)"
        }
    }
}

Test 'every file parses and is ASCII' {
    Assert-True ($Sources.Count -ge 15) 'the sources are found'
    foreach ($file in $Sources) {
        $errors = $null
        $null = [Management.Automation.Language.Parser]::ParseFile($file.FullName, [ref] $null, [ref] $errors)
        Assert-Equal (@($errors | ForEach-Object { $_.Message }) -join '; ') '' "errors of $($file.Name)"
        # without a mark, 5.1 reads a file as ANSI
        Assert-True ([IO.File]::ReadAllText($file.FullName) -notmatch '[^\t\r\n\x20-\x7e]') "$($file.Name) is ASCII"
    }
}

function Get-NewerThan51 {
    # What of a script Windows PowerShell 5.1 does not know.
    param([string] $Text)
    $tokens = $null
    $tree = [Management.Automation.Language.Parser]::ParseInput($Text, [ref] $tokens, [ref] $null)
    foreach ($token in $tokens) {
        if ([string] $token.Kind -in 'QuestionMark', 'QuestionQuestion', 'QuestionQuestionEquals', 'QuestionDot', 'QuestionLBracket', 'AndAnd', 'OrOr', 'Clean') {
            "$($token.Extent.StartLineNumber): $($token.Text)"
        }
    }
    $parameters = 'Parallel', 'AsHashtable', 'NoEnumerate', 'SkipCertificateCheck', 'AsByteStream', 'AdditionalChildPath', 'AsUTC', 'LeafBase'
    $commands = 'Join-String', 'Test-Json', 'Get-Error', 'Remove-Alias', 'Get-Uptime', 'Start-ThreadJob', 'ConvertFrom-Markdown'
    foreach ($node in $tree.FindAll({ $true }, $true)) {
        $found = switch ($node.GetType().Name) {
            'CommandParameterAst' { $node.ParameterName -in $parameters }
            'CommandAst' { $node.GetCommandName() -in $commands }
            'VariableExpressionAst' { $node.VariablePath.UserPath -in 'IsWindows', 'IsLinux', 'IsMacOS', 'IsCoreCLR' }
            'TypeDefinitionAst' { $true }
            'UsingStatementAst' { $true }
            'TernaryExpressionAst' { $true }
            'PipelineChainAst' { $true }
        }
        if ($found) {
            "$($node.Extent.StartLineNumber): $($node.Extent.Text)"
        }
    }
}

Test 'nothing is newer than Windows PowerShell 5.1' {
    foreach ($file in $Sources) {
        $found = @(Get-NewerThan51 ([IO.File]::ReadAllText($file.FullName))) -join '; '
        Assert-Equal $found '' "newer syntax in $($file.Name)"
    }
}

Test 'the check for newer syntax finds it' {
    $newer = '$a ?? 1', '$a ??= 1', '$b = $a ? 1 : 2', '1 && 2', '1 || 2', '1 | ForEach-Object -Parallel { 1 }', '$IsWindows',
    'class A {}', 'ConvertFrom-Json $a -AsHashtable', '${a}?.b', 'Join-String'
    if ($PSVersionTable.PSVersion.Major -lt 6) {
        $newer = '1 | ForEach-Object -Parallel { 1 }', '$IsWindows', 'class A {}'
    }
    foreach ($text in $newer) {
        Assert-True (@(Get-NewerThan51 $text).Count -gt 0) "found in: $text"
    }
}

Test 'about_Sealwright names every command and every error that is thrown' {
    $about = [IO.File]::ReadAllText([IO.Path]::Combine($ModuleFolder, 'en-US', 'about_Sealwright.help.txt'))
    foreach ($command in $Commands) {
        Assert-True ($about.Contains($command)) "about_Sealwright names $command"
    }
    foreach ($match in [regex]::Matches($about, 'Sealwright\.([A-Z]\w+)')) {
        $id = $match.Groups[1].Value -replace '^SigningRequest\w+', 'SigningRequest$State'
        $text = ($Sources | ForEach-Object { [IO.File]::ReadAllText($_.FullName) }) -join "`n"
        Assert-True ($text.Contains("'$id'") -or $text.Contains("`"$id`"")) "$id is thrown"
    }
}
