import groovy.transform.CompileStatic

/** Objects of classes that a loader of Groovy's has, and of primitive ones. */
@CompileStatic
class Loading extends ObjectInputStream {
    private final ClassLoader loader

    Loading(InputStream stream, ClassLoader loader) {
        super(stream)
        this.loader = loader
    }

    @Override
    protected Class<?> resolveClass(ObjectStreamClass description) {
        try {
            return Class.forName(description.name, false, loader)
        } catch (ClassNotFoundException primitive) {
            return super.resolveClass(description)
        }
    }
}
