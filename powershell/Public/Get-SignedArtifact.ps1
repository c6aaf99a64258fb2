function Get-SignedArtifact {
    <#
    .SYNOPSIS
    Fetches the signed artifact of a signing request.

    .DESCRIPTION
    Waits until the request is final, then downloads the signed artifact. It is written beside its place, compared with the
    SHA-256 that the server names, and then renamed, so that the file appears whole or not at all. A download that breaks
    off goes on where it ended.

    A request that failed, was denied or was canceled is an error that says why.

    .PARAMETER SigningRequestId
    The id of the signing request.

    .PARAMETER OutputArtifactPath
    Where the signed artifact goes.

    .PARAMETER Force
    Overwrite the file at -OutputArtifactPath.

    .PARAMETER WaitForCompletionTimeoutInSeconds
    How long to wait for the end of the request. The request goes on when the time is over.

    .PARAMETER OrganizationId
    The id of the organization.

    .PARAMETER ApiToken
    The token of a user who may read the request. Without it, the environment variable SEALWRIGHT_TOKEN is taken.

    .PARAMETER ClientCertificate
    A certificate, with its key, for a server or proxy that asks its clients for one (mutual TLS).

    .PARAMETER ApiUrl
    The address of the server: https://HOST. Endings /API and /API/v1 are accepted. Without it, the environment variable
    SEALWRIGHT_URL is taken.

    .PARAMETER ServiceUnavailableTimeoutInSeconds
    How long one call is tried again while the server cannot be reached or answers 429, 502, 503 or 504.

    .PARAMETER UploadAndDownloadRequestTimeoutInSeconds
    How long one download may take.

    .PARAMETER CancellationTimeoutInSeconds
    Not used: Ctrl-C breaks off the download at once and leaves the request as it is. It is accepted so that the same
    splatted parameters fit Submit-SigningRequest too.

    .INPUTS
    Objects with a property SigningRequestId.

    .OUTPUTS
    None.

    .EXAMPLE
    Get-SignedArtifact -ApiUrl https://signing.example.com -OrganizationId $organization -SigningRequestId $id -OutputArtifactPath setup.signed.exe

    Waits for the request and saves what was signed.

    .LINK
    about_Sealwright

    .LINK
    Submit-SigningRequest
    #>
    [CmdletBinding(SupportsShouldProcess = $true)]
    [OutputType([void])]
    param(
        [Parameter(Mandatory, ValueFromPipelineByPropertyName)] [ValidateNotNullOrEmpty()] [string] $SigningRequestId,
        [Parameter(Mandatory)] [ValidateNotNullOrEmpty()] [string] $OutputArtifactPath,
        [switch] $Force,
        [ValidateRange(1, 2147483)] [int] $WaitForCompletionTimeoutInSeconds = 600,

        [Parameter(Mandatory)] [ValidateNotNullOrEmpty()] [string] $OrganizationId,
        [Alias('CIUserToken')] [string] $ApiToken,
        [Security.Cryptography.X509Certificates.X509Certificate2] $ClientCertificate,
        [string] $ApiUrl = $env:SEALWRIGHT_URL,
        [ValidateRange(0, 2147483)] [int] $ServiceUnavailableTimeoutInSeconds = 600,
        [ValidateRange(1, 2147483)] [int] $UploadAndDownloadRequestTimeoutInSeconds = 300,
        [ValidateRange(0, 2147483)] [int] $CancellationTimeoutInSeconds = 30
    )
    process {
        $ErrorActionPreference = 'Stop'
        $output = Resolve-Output $OutputArtifactPath $Force
        $connection = New-Connection -ApiUrl $ApiUrl -ApiToken $ApiToken -OrganizationId $OrganizationId `
            -ClientCertificate $ClientCertificate -ServiceUnavailableTimeoutInSeconds $ServiceUnavailableTimeoutInSeconds `
            -UploadAndDownloadRequestTimeoutInSeconds $UploadAndDownloadRequestTimeoutInSeconds
        try {
            if ($PSCmdlet.ShouldProcess($output, "Save the signed artifact of $SigningRequestId")) {
                $status = Wait-FinalStatus $connection $SigningRequestId $WaitForCompletionTimeoutInSeconds
                Assert-Completed $connection $SigningRequestId $status.status
                Save-SignedArtifact $connection $SigningRequestId $output $Force
            }
        }
        finally {
            $connection.Client.Dispose()
        }
    }
}
