import java.io.File;
import java.io.FileInputStream;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import javax.xml.crypto.XMLStructure;
import javax.xml.crypto.dsig.CanonicalizationMethod;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Manifest;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLObject;
import javax.xml.crypto.dsig.XMLSignatureException;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import org.apache.poi.openxml4j.exceptions.InvalidFormatException;
import org.apache.poi.openxml4j.opc.OPCPackage;
import org.apache.poi.openxml4j.opc.PackageAccess;
import org.apache.poi.openxml4j.opc.PackagePart;
import org.apache.poi.openxml4j.opc.PackageRelationship;
import org.apache.poi.openxml4j.opc.PackagingURIHelper;
import org.apache.poi.poifs.crypt.HashAlgorithm;
import org.apache.poi.poifs.crypt.dsig.SignatureConfig;
import org.apache.poi.poifs.crypt.dsig.SignatureInfo;
import org.apache.poi.poifs.crypt.dsig.facets.KeyInfoSignatureFacet;
import org.apache.poi.poifs.crypt.dsig.facets.SignatureFacet;
import org.apache.poi.poifs.crypt.dsig.services.RelationshipTransformService;
import org.apache.poi.poifs.crypt.dsig.services.RelationshipTransformService.RelationshipTransformParameterSpec;
import org.w3c.dom.Document;

/**
 * Signs Open Packaging files with Apache POI: key store, its password, then kinds and files in turn.
 *
 * With the kind "office" it signs what Office signs, with "whole" every part and relationship.
 */
public class SignOpc {
    static class WholePackage implements SignatureFacet {
        @Override
        public void preSign(SignatureInfo info, Document document, List<Reference> references, List<XMLObject> objects)
                throws XMLSignatureException {
            List<Reference> parts = new ArrayList<>();
            try {
                for (PackagePart part : info.getOpcPackage().getParts()) {
                    String name = part.getPartName().getName();
                    String type = "?ContentType=" + part.getContentType();
                    List<Transform> transforms = new ArrayList<>();
                    if (part.isRelationshipPart()) {
                        addRelationships(info, name, transforms);
                    }
                    if (!name.startsWith("/_xmlsignatures/")) {
                        parts.add(reference(info, name + type, transforms, null));
                    }
                }
            } catch (InvalidFormatException e) {
                throw new XMLSignatureException(e);
            }
            XMLSignatureFactory factory = info.getSignatureFactory();
            Manifest manifest = factory.newManifest(parts);
            List<XMLStructure> content = Collections.singletonList(manifest);
            objects.add(factory.newXMLObject(content, "idPackageObject", null, null));
            references.add(reference(info, "#idPackageObject", null, XML_DIGSIG_NS + "Object"));
        }

        private void addRelationships(SignatureInfo info, String name, List<Transform> transforms)
                throws InvalidFormatException, XMLSignatureException {
            String source = name.replace("/_rels/", "/").replaceAll("\\.rels$", "");
            OPCPackage opened = info.getOpcPackage();
            Iterable<PackageRelationship> all = source.equals("/")
                ? opened.getRelationships()
                : opened.getPart(PackagingURIHelper.createPartName(source)).getRelationships();
            RelationshipTransformParameterSpec selection = new RelationshipTransformParameterSpec();
            for (PackageRelationship each : all) {
                if (!each.getRelationshipType().contains("/digital-signature/")) {
                    selection.addRelationshipReference(each.getId());
                }
            }
            XMLSignatureFactory factory = info.getSignatureFactory();
            try {
                transforms.add(factory.newTransform(RelationshipTransformService.TRANSFORM_URI, selection));
                transforms.add(factory.newTransform(CanonicalizationMethod.INCLUSIVE, (C14NMethodParameterSpec) null));
            } catch (GeneralSecurityException e) {
                throw new XMLSignatureException(e);
            }
        }

        private Reference reference(SignatureInfo info, String uri, List<Transform> transforms, String type)
                throws XMLSignatureException {
            XMLSignatureFactory factory = info.getSignatureFactory();
            try {
                DigestMethod sha384 = factory.newDigestMethod("http://www.w3.org/2001/04/xmldsig-more#sha384", null);
                return factory.newReference(uri, sha384, transforms, type, null);
            } catch (GeneralSecurityException e) {
                throw new XMLSignatureException(e);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        char[] password = arguments[1].toCharArray();
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream input = new FileInputStream(arguments[0])) {
            store.load(input, password);
        }
        for (int at = 2; at < arguments.length; at += 2) {
            sign(store, password, arguments[at].equals("whole"), new File(arguments[at + 1]));
        }
    }

    private static void sign(KeyStore store, char[] password, boolean whole, File file) throws Exception {
        String alias = store.aliases().nextElement();
        SignatureConfig config = new SignatureConfig();
        config.setKey((PrivateKey) store.getKey(alias, password));
        config.setSigningCertificateChain(
            Collections.singletonList((X509Certificate) store.getCertificate(alias)));
        config.setDigestAlgo(HashAlgorithm.sha384);
        if (whole) {
            config.setSignatureFacets(Arrays.asList(new WholePackage(), new KeyInfoSignatureFacet()));
        }
        try (OPCPackage opened = OPCPackage.open(file, PackageAccess.READ_WRITE)) {
            SignatureInfo info = new SignatureInfo();
            info.setSignatureConfig(config);
            info.setOpcPackage(opened);
            info.confirmSignature();
        }
    }
}
