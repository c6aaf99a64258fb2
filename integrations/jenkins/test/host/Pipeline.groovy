import com.cloudbees.groovy.cps.Continuable
import com.cloudbees.groovy.cps.CpsTransformer
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ImportCustomizer

/**
 * Runs a pipeline with the library as Jenkins does: transformed by Jenkins' own CPS transformer, and at
 * every pause saved to bytes, thrown away and loaded again, as when the controller is restarted there.
 *
 * Arguments: a file of JSON with `library` and `steps` (folders), `pipeline` (file), `environment`, `credentials`,
 * `workspace`, `speed` (of the clock), `unix`. Writes what happened to the file `result` names.
 */
class Pipeline {
    static Map plan
    static List<String> saved = []
    static List<List<String>> calls = []
    static List<Integer> sleeps = []

    static void main(String[] arguments) {
        plan = new JsonSlurper().parse(new File(arguments[0])) as Map
        ClassLoader loader = compiler()
        String failure = null
        Object value = null
        try {
            value = run(loader)
        } catch (java.lang.reflect.InvocationTargetException error) {
            failure = "${error.cause.class.simpleName}: ${error.cause.message}"
            if (!(error.cause instanceof Failure)) {
                error.cause.printStackTrace()
            }
        }
        new File(plan.result as String).text = JsonOutput.toJson(
            [failure: failure, value: value?.toString(), saved: saved, calls: calls, sleeps: sleeps])
    }

    static GroovyClassLoader compiler() {
        GroovyClassLoader steps = new GroovyClassLoader(Pipeline.classLoader, transformed())
        steps.addClasspath(plan.steps as String)
        steps.loadClass('StepScript')
        CompilerConfiguration configuration = transformed()
        configuration.scriptBaseClass = 'StepScript'
        GroovyClassLoader loader = new GroovyClassLoader(steps, configuration)
        loader.addClasspath("${plan.library}/src")
        return loader
    }

    static CompilerConfiguration transformed() {
        CompilerConfiguration configuration = new CompilerConfiguration()
        configuration.addCompilationCustomizers(new CpsTransformer())
        configuration.addCompilationCustomizers(new ImportCustomizer().addImports('com.cloudbees.groovy.cps.NonCPS'))
        return configuration
    }

    static Object run(GroovyClassLoader loader) {
        Script script = loader.parseClass(new File(plan.pipeline as String)).newInstance() as Script
        for (File step in new File("${plan.library}/vars").listFiles().findAll { it.name.endsWith('.groovy') }.sort()) {
            String name = step.name - '.groovy'
            script.binding.setVariable(name, loader.parseClass(step).newInstance())
        }
        Continuable continuable = new Continuable(script)
        Object value = continuable.run(null)
        while (continuable.isResumable()) {
            int seconds = value as int
            sleeps << seconds
            continuable = restart(continuable, loader)
            Thread.sleep((seconds * 1000 / (plan.speed as double)) as long)
            value = continuable.run(null)
        }
        return value
    }

    static Continuable restart(Continuable continuable, ClassLoader loader) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream()
        bytes.withObjectOutputStream { it.writeObject(continuable) }
        saved << bytes.toByteArray().encodeBase64().toString()
        return new Loading(new ByteArrayInputStream(bytes.toByteArray()), loader).readObject() as Continuable
    }
}
