# Sealwright for Windows PowerShell 5.1 and PowerShell 7: everything over System.Net.Http.HttpClient.

Set-StrictMode -Version Latest
# a build must not go on with an unsigned artifact because its script forgot to stop at errors
$ErrorActionPreference = 'Stop'

if ($PSVersionTable.PSVersion.Major -lt 6) {
    Add-Type -AssemblyName System.Net.Http
    # 0 leaves the choice to Windows, which is the better one where the framework offers it
    $protocols = [Net.ServicePointManager]::SecurityProtocol
    if ([int] $protocols -ne 0) {
        [Net.ServicePointManager]::SecurityProtocol = $protocols -bor [Net.SecurityProtocolType]::Tls12
    }
}

foreach ($folder in 'Private', 'Public') {
    foreach ($file in Get-ChildItem -Path (Join-Path $PSScriptRoot $folder) -Filter '*.ps1') {
        . $file.FullName
    }
}

Export-ModuleMember -Function @(
    'Submit-SigningRequest', 'Get-SignedArtifact', 'Get-SigningRequest', 'Wait-SigningRequest', 'Stop-SigningRequest'
)
