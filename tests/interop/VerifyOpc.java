import java.io.ByteArrayInputStream;
import java.io.OutputStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.ZipFile;
import org.apache.poi.openxml4j.opc.OPCPackage;
import org.apache.poi.openxml4j.opc.PackagePart;
import org.apache.poi.openxml4j.opc.PackagePartName;
import org.apache.poi.openxml4j.opc.PackagePartCollection;
import org.apache.poi.openxml4j.opc.internal.MemoryPackagePart;
import org.apache.poi.openxml4j.opc.internal.PackagePropertiesPart;
import org.apache.poi.poifs.crypt.dsig.SignatureConfig;
import org.apache.poi.poifs.crypt.dsig.SignatureInfo;
import org.apache.poi.poifs.crypt.dsig.SignaturePart;

/** Verifies the signatures of Open Packaging files with Apache POI: a line for each. */
public class VerifyOpc {
    public static void main(String[] files) throws Exception {
        SignatureConfig config = new SignatureConfig();
        config.setSecureValidation(false);  // or it reads no more than 30 references
        for (String file : files) {
            try (ZipFile archive = new ZipFile(file)) {
                // from memory: what is read from a file cannot be changed
                OPCPackage opened = OPCPackage.open(new ByteArrayInputStream(
                    java.nio.file.Files.readAllBytes(Path.of(file))));
                restoreProperties(opened, archive);
                SignatureInfo info = new SignatureInfo();
                info.setSignatureConfig(config);
                info.setOpcPackage(opened);
                List<String> found = new ArrayList<>();
                for (SignaturePart part : info.getSignatureParts()) {
                    boolean valid = part.validate();
                    found.add((valid ? "valid " : "INVALID ")
                        + (part.getSigner() == null ? "" : part.getSigner().getSubjectX500Principal()));
                }
                System.out.println(file + ": " + found.size() + " " + found);
                opened.revert();
            }
        }
    }

    /** POI parses core properties and does not keep their bytes, so that it cannot digest them. */
    private static void restoreProperties(OPCPackage opened, ZipFile archive) throws Exception {
        for (PackagePart part : new ArrayList<>(opened.getParts())) {
            if (part instanceof PackagePropertiesPart) {
                PackagePartName name = part.getPartName();
                var plain = new MemoryPackagePart(opened, name, part.getContentType());
                try (OutputStream content = plain.getOutputStream()) {
                    String path = name.getName().substring(1);
                    archive.getInputStream(archive.getEntry(path)).transferTo(content);
                }
                opened.removePart(name);
                var parts = OPCPackage.class.getDeclaredField("partList");
                parts.setAccessible(true);
                ((PackagePartCollection) parts.get(opened)).put(name, plain);
            }
        }
    }
}
