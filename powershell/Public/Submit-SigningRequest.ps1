function Submit-SigningRequest {
    <#
    .SYNOPSIS
    Submits an artifact to be signed.

    .DESCRIPTION
    Makes a signing request from a local file (-InputArtifactPath), from a file that the server fetches
    (-ArtifactRetrievalLink), or from the artifact of an earlier request (-Resubmit). The signing policy is named by
    -SigningPolicyId, or by -SigningPolicySlug together with -ProjectSlug.

    With -WaitForCompletion the command ends when the request does, and -OutputArtifactPath then holds the signed artifact.
    Without it, fetch the artifact later with Get-SignedArtifact.

    What goes wrong ends the script, whatever $ErrorActionPreference says, so that no build goes on unsigned. While the
    server cannot be reached, the command tries again; a submission that arrives twice makes one request.

    .PARAMETER InputArtifactPath
    The file to be signed. It is streamed, whatever its size.

    .PARAMETER ArtifactRetrievalLink
    The address from which the server fetches the artifact.

    .PARAMETER ArtifactRetrievalLinkFileName
    The file name of the artifact behind the link.

    .PARAMETER ArtifactRetrievalLinkSha256Hash
    The SHA-256 of the artifact behind the link, in hexadecimal. The server refuses anything else.

    .PARAMETER ArtifactRetrievalLinkHttpHeaders
    HTTP headers that the server sends when it fetches the artifact, such as Authorization.

    .PARAMETER Resubmit
    Sign the artifact of an earlier request again, usually under another policy.

    .PARAMETER OriginalSigningRequestId
    The id of the earlier request.

    .PARAMETER ProjectSlug
    The slug of the project.

    .PARAMETER SigningPolicySlug
    The slug of the signing policy.

    .PARAMETER SigningPolicyId
    The id of the signing policy, instead of the slugs of project and policy.

    .PARAMETER ArtifactConfigurationSlug
    The slug of the artifact configuration. Without it, the default of the project is taken.

    .PARAMETER ArtifactConfigurationId
    The id of the artifact configuration, instead of its slug.

    .PARAMETER Origin
    Where the artifact comes from: a hashtable with RepositoryData (Url, BranchName, CommitId,
    SourceControlManagementType) and BuildData (Url, BuildSettingsFile), nested or with dotted keys. A value @path stands
    for what is in that file; @@ begins a value that itself begins with @.

    .PARAMETER Parameters
    Values of the parameters that the artifact configuration declares.

    .PARAMETER Description
    What the approver should know.

    .PARAMETER WaitForCompletion
    Wait until the request is final. Ctrl-C then cancels the request.

    .PARAMETER OutputArtifactPath
    Where the signed artifact goes. The file appears whole or not at all.

    .PARAMETER Force
    Overwrite the file at -OutputArtifactPath.

    .PARAMETER WaitForCompletionTimeoutInSeconds
    How long to wait for the end of the request. The request goes on when the time is over.

    .PARAMETER OrganizationId
    The id of the organization.

    .PARAMETER ApiToken
    The token of the user in whose name the artifact is submitted. Without it, the environment variable SEALWRIGHT_TOKEN is
    taken, which does not show up in logs and histories.

    .PARAMETER ClientCertificate
    A certificate, with its key, for a server or proxy that asks its clients for one (mutual TLS).

    .PARAMETER ApiUrl
    The address of the server: https://HOST. Endings /API and /API/v1 are accepted. Without it, the environment variable
    SEALWRIGHT_URL is taken.

    .PARAMETER ServiceUnavailableTimeoutInSeconds
    How long one call is tried again while the server cannot be reached or answers 429, 502, 503 or 504.

    .PARAMETER UploadAndDownloadRequestTimeoutInSeconds
    How long one upload or download may take.

    .PARAMETER CancellationTimeoutInSeconds
    How long Ctrl-C may take to cancel the request on the server. 0 leaves the request to go on.

    .INPUTS
    None.

    .OUTPUTS
    System.String. The id of the signing request.

    .EXAMPLE
    Submit-SigningRequest -ApiUrl https://signing.example.com -OrganizationId $organization -ProjectSlug product -SigningPolicySlug release -InputArtifactPath setup.exe -WaitForCompletion -OutputArtifactPath setup.signed.exe

    Signs setup.exe. The token is taken from SEALWRIGHT_TOKEN.

    .EXAMPLE
    Submit-SigningRequest @server -Resubmit -OriginalSigningRequestId $id -SigningPolicySlug release

    Signs under the release policy what was signed for tests before.

    .EXAMPLE
    Submit-SigningRequest @server -ProjectSlug product -SigningPolicySlug release -InputArtifactPath setup.exe -Origin @{ 'BuildData.Url' = $env:BUILD_URL; RepositoryData = @{ BranchName = 'main' } } -Parameters @{ version = '1.2' }

    Says where the artifact comes from, and gives a parameter of the artifact configuration.

    .LINK
    about_Sealwright

    .LINK
    Get-SignedArtifact
    #>
    [CmdletBinding(DefaultParameterSetName = 'Upload', SupportsShouldProcess = $true)]
    [OutputType([string])]
    param(
        [Parameter(Mandatory, ParameterSetName = 'Upload')] [ValidateNotNullOrEmpty()] [string] $InputArtifactPath,

        [Parameter(Mandatory, ParameterSetName = 'Link')] [ValidateNotNullOrEmpty()] [string] $ArtifactRetrievalLink,
        [Parameter(Mandatory, ParameterSetName = 'Link')] [ValidateNotNullOrEmpty()] [string] $ArtifactRetrievalLinkFileName,
        [Parameter(ParameterSetName = 'Link')] [ValidatePattern('^[0-9A-Fa-f]{64}$')] [string] $ArtifactRetrievalLinkSha256Hash,
        [Parameter(ParameterSetName = 'Link')] [hashtable] $ArtifactRetrievalLinkHttpHeaders = @{},

        [Parameter(Mandatory, ParameterSetName = 'Resubmit')] [switch] $Resubmit,
        [Parameter(Mandatory, ParameterSetName = 'Resubmit')] [ValidateNotNullOrEmpty()] [string] $OriginalSigningRequestId,

        [Parameter(ParameterSetName = 'Upload')] [Parameter(ParameterSetName = 'Link')] [string] $ProjectSlug,
        [string] $SigningPolicySlug,
        [string] $SigningPolicyId,
        [string] $ArtifactConfigurationSlug,
        [string] $ArtifactConfigurationId,

        [Parameter(ParameterSetName = 'Upload')] [Parameter(ParameterSetName = 'Link')] [hashtable] $Origin = @{},
        [hashtable] $Parameters = @{},
        [string] $Description,

        [switch] $WaitForCompletion,
        [string] $OutputArtifactPath,
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
    # an -ErrorAction that swallows would go on after every throw
    $ErrorActionPreference = 'Stop'
    Assert-Submission $PSCmdlet.ParameterSetName $PSBoundParameters
    $output = ''
    if ($OutputArtifactPath) {
        $output = Resolve-Output $OutputArtifactPath $Force
    }

    $form = @{ Action = ''; What = 'Submitting'; Parts = @() }
    $subject = ''
    switch ($PSCmdlet.ParameterSetName) {
        'Upload' {
            $file = Resolve-Input $InputArtifactPath '-InputArtifactPath'
            $subject = $file
            $form.What = "Uploading $([IO.Path]::GetFileName($file))"
        }
        'Link' {
            $subject = $ArtifactRetrievalLinkFileName
            $form.Parts += @{ Name = 'ArtifactRetrievalLink.Url'; Value = $ArtifactRetrievalLink }
            $form.Parts += @{ Name = 'ArtifactRetrievalLink.FileName'; Value = $ArtifactRetrievalLinkFileName }
            if ($ArtifactRetrievalLinkSha256Hash) {
                $form.Parts += @{ Name = 'ArtifactRetrievalLink.Sha256Hash'; Value = $ArtifactRetrievalLinkSha256Hash }
            }
            foreach ($name in $ArtifactRetrievalLinkHttpHeaders.Keys) {
                $value = $ArtifactRetrievalLinkHttpHeaders[$name]
                $form.Parts += @{ Name = "ArtifactRetrievalLink.HttpHeaders[$name]"; Value = $value }
            }
        }
        'Resubmit' {
            $subject = "the artifact of $OriginalSigningRequestId"
            $form.Action = '/Resubmit'
            $form.Parts += @{ Name = 'OriginalSigningRequestId'; Value = $OriginalSigningRequestId }
        }
    }
    $named = 'ProjectSlug', 'SigningPolicySlug', 'SigningPolicyId', 'ArtifactConfigurationSlug', 'ArtifactConfigurationId', 'Description'
    foreach ($name in $named) {
        if ($PSBoundParameters[$name]) {
            $form.Parts += @{ Name = $name; Value = $PSBoundParameters[$name] }
        }
    }
    foreach ($name in $Parameters.Keys) {
        $form.Parts += @{ Name = "Parameters[$name]"; Value = $Parameters[$name] }
    }
    $form.Parts += @(ConvertTo-OriginPart $Origin)
    if ($PSCmdlet.ParameterSetName -eq 'Upload') {
        # last: what is before it decides whether it is received at all
        $form.Parts += @{ Name = 'Artifact'; Path = $file; IsArtifact = $true }
    }

    $connection = New-Connection -ApiUrl $ApiUrl -ApiToken $ApiToken -OrganizationId $OrganizationId `
        -ClientCertificate $ClientCertificate -ServiceUnavailableTimeoutInSeconds $ServiceUnavailableTimeoutInSeconds `
        -UploadAndDownloadRequestTimeoutInSeconds $UploadAndDownloadRequestTimeoutInSeconds
    $id = ''
    $stopped = $true
    try {
        if ($PSCmdlet.ShouldProcess($subject, "Submit to $($connection.Root) for signing")) {
            $id = Submit-Form $connection $form.Action $form.Parts $form.What
            if ($WaitForCompletion) {
                $status = Wait-FinalStatus $connection $id $WaitForCompletionTimeoutInSeconds
                Assert-Completed $connection $id $status.status
                if ($output) {
                    Save-SignedArtifact $connection $id $output $Force
                }
            }
        }
        $stopped = $false
        if ($id) {
            $id
        }
    }
    catch {
        $stopped = $false
        throw
    }
    finally {
        # neither the end nor an error: Ctrl-C. Nobody waits for this request any more.
        if ($stopped -and $id -and $CancellationTimeoutInSeconds) {
            Stop-Unwanted $connection $id $CancellationTimeoutInSeconds
        }
        $connection.Client.Dispose()
    }
}
