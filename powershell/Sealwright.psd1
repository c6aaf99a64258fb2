@{
    RootModule           = 'Sealwright.psm1'
    ModuleVersion        = '0.1.0'
    GUID                 = '5a9b3c0e-6d0f-4c1b-9d5e-3b1f7e0c2a84'
    Author               = 'The Sealwright authors'
    CompanyName          = 'Sealwright'
    Copyright            = '(c) The Sealwright authors. Apache-2.0.'
    Description          = 'Submits artifacts to a Sealwright code-signing server and fetches the signed ones.'
    PowerShellVersion    = '5.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FunctionsToExport    = @(
        'Submit-SigningRequest'
        'Get-SignedArtifact'
        'Get-SigningRequest'
        'Wait-SigningRequest'
        'Stop-SigningRequest'
    )
    CmdletsToExport      = @()
    VariablesToExport    = @()
    AliasesToExport      = @()
    FileList             = @(
        'Sealwright.psd1'
        'Sealwright.psm1'
        'Private/Connection.ps1'
        'Private/Download.ps1'
        'Private/Errors.ps1'
        'Private/Form.ps1'
        'Private/Http.ps1'
        'Private/SigningRequest.ps1'
        'Public/Get-SignedArtifact.ps1'
        'Public/Get-SigningRequest.ps1'
        'Public/Stop-SigningRequest.ps1'
        'Public/Submit-SigningRequest.ps1'
        'Public/Wait-SigningRequest.ps1'
        'en-US/about_Sealwright.help.txt'
    )
    PrivateData          = @{
        PSData = @{
            Tags = @('signing', 'code-signing', 'authenticode', 'CI', 'Windows', 'Linux', 'MacOS')
        }
    }
}
