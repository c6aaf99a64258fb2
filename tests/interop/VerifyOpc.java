import java.util.ArrayList;
import java.util.List;
import org.apache.poi.openxml4j.opc.OPCPackage;
import org.apache.poi.openxml4j.opc.PackageAccess;
import org.apache.poi.poifs.crypt.dsig.SignatureConfig;
import org.apache.poi.poifs.crypt.dsig.SignatureInfo;
import org.apache.poi.poifs.crypt.dsig.SignaturePart;

/** Verifies the signatures of Open Packaging files with Apache POI: a line for each. */
public class VerifyOpc {
    public static void main(String[] files) throws Exception {
        for (String file : files) {
            try (OPCPackage opened = OPCPackage.open(file, PackageAccess.READ)) {
                SignatureInfo info = new SignatureInfo();
                info.setSignatureConfig(new SignatureConfig());
                info.setOpcPackage(opened);
                List<String> found = new ArrayList<>();
                for (SignaturePart part : info.getSignatureParts()) {
                    boolean valid = part.validate();
                    found.add((valid ? "valid " : "INVALID ")
                        + (part.getSigner() == null ? "" : part.getSigner().getSubjectX500Principal()));
                }
                System.out.println(file + ": " + found.size() + " " + found);
            }
        }
    }
}
