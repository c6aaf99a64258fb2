import static com.lesfurets.jenkins.unit.global.lib.LibraryConfiguration.library
import static com.lesfurets.jenkins.unit.global.lib.LocalSource.localSource

import com.lesfurets.jenkins.unit.cps.BasePipelineTestCPS
import groovy.json.JsonSlurper

/**
 * Loads the folder as a shared library through JenkinsPipelineUnit, with `@Library` as a pipeline has it.
 *
 * Arguments: a file of JSON as `Pipeline` reads, where `library` is the folder of `sealwright@VERSION`.
 */
class Loaded extends BasePipelineTestCPS {
    static void main(String[] arguments) {
        Map plan = new JsonSlurper().parse(new File(arguments[0])) as Map
        new Loaded().load(plan)
    }

    void load(Map plan) {
        File pipeline = new File(plan.pipeline as String)
        baseScriptRoot = '/'
        scriptRoots = [pipeline.parent]
        setUp()
        helper.registerSharedLibrary(library('sealwright').defaultVersion('tested').allowOverride(true).implicit(false)
            .targetPath(plan.library as String).retriever(localSource(plan.library as String)).build())
        Map<String, String> environment = new HashMap<String, String>(plan.environment as Map)
        binding.setVariable('env', environment)
        helper.registerAllowedMethod('string', [Map]) { it }
        helper.registerAllowedMethod('withCredentials', [List, Closure]) { List bindings, Closure body ->
            bindings.each { environment[it.variable] = plan.credentials[it.credentialsId] }
            body()
        }
        helper.registerAllowedMethod('sleep', [Map]) { Thread.sleep(50) }
        helper.registerAllowedMethod('echo', [String]) { println(it) }
        runScript(pipeline.name)
        printCallStack()
    }
}
