import java.io.ByteArrayInputStream;
import java.io.File;
import java.nio.charset.Charset;
import java.security.MessageDigest;
import java.security.Signature;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Arrays;
import net.jsign.DigestAlgorithm;
import net.jsign.Signable;
import net.jsign.bouncycastle.asn1.ASN1ObjectIdentifier;
import net.jsign.bouncycastle.asn1.ASN1OctetString;
import net.jsign.bouncycastle.asn1.ASN1Sequence;
import net.jsign.bouncycastle.asn1.cms.CMSAttributes;
import net.jsign.bouncycastle.asn1.cms.SignedData;
import net.jsign.bouncycastle.cert.X509CertificateHolder;
import net.jsign.bouncycastle.cms.CMSSignedData;
import net.jsign.bouncycastle.cms.SignerInformation;

/**
 * Verifies the signatures of scripts: a line for each file. Jsign finds the signature and computes
 * the digest of the script; that both fit is compared here, by its Bouncy Castle and Java's own keys.
 */
public class VerifyScript {
    public static void main(String[] files) throws Exception {
        for (String name : files) {
            StringBuilder found = new StringBuilder();
            // without a byte order mark Jsign takes UTF-8, where Windows takes its code page
            String charset = name.contains("ansi") ? "windows-1252" : "UTF-8";
            try (Signable script = Signable.of(new File(name), Charset.forName(charset))) {
                for (CMSSignedData cms : script.getSignatures()) {
                    found.append(' ').append(verify(script, cms));
                }
            }
            System.out.println(name + ":" + found);
        }
    }

    private static String verify(Signable script, CMSSignedData cms) throws Exception {
        SignedData data = SignedData.getInstance(cms.toASN1Structure().getContent());
        ASN1Sequence content = ASN1Sequence.getInstance(data.getEncapContentInfo().getContent());
        ASN1Sequence signed = ASN1Sequence.getInstance(content.getObjectAt(1));  // DigestInfo
        DigestAlgorithm algorithm = DigestAlgorithm.of(ASN1ObjectIdentifier.getInstance(
            ASN1Sequence.getInstance(signed.getObjectAt(0)).getObjectAt(0)));
        byte[] expected = ASN1OctetString.getInstance(signed.getObjectAt(1)).getOctets();
        if (!Arrays.equals(script.computeDigest(algorithm), expected)) {
            return "OTHER-SCRIPT";
        }
        SignerInformation signer = cms.getSignerInfos().getSigners().iterator().next();
        MessageDigest digest = algorithm.getMessageDigest();
        for (int at = 0; at < content.size(); at++) {  // the sequence without tag and length
            digest.update(content.getObjectAt(at).toASN1Primitive().getEncoded("DER"));
        }
        byte[] attribute = ASN1OctetString.getInstance(signer.getSignedAttributes()
            .get(CMSAttributes.messageDigest).getAttrValues().getObjectAt(0)).getOctets();
        if (!Arrays.equals(digest.digest(), attribute)) {
            return "OTHER-CONTENT";
        }
        var holder = (X509CertificateHolder) cms.getCertificates().getMatches(signer.getSID())
            .iterator().next();
        X509Certificate certificate = (X509Certificate) CertificateFactory.getInstance("X.509")
            .generateCertificate(new ByteArrayInputStream(holder.toASN1Structure().getEncoded()));
        String key = certificate.getPublicKey().getAlgorithm();
        Signature check = Signature.getInstance(
            algorithm.id.replace("-", "") + "with" + (key.equals("EC") ? "ECDSA" : key));
        check.initVerify(certificate.getPublicKey());
        check.update(signer.getEncodedSignedAttributes());
        return check.verify(signer.getSignature()) ? "valid/" + algorithm.id : "OTHER-SIGNATURE";
    }
}
