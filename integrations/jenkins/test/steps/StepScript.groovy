import com.cloudbees.groovy.cps.Continuable
import com.cloudbees.groovy.cps.NonCPS
import com.cloudbees.groovy.cps.SerializableScript

/** The steps of Jenkins that the library and the page's Jenkinsfile use. */
abstract class StepScript extends SerializableScript {
    @NonCPS
    Map<String, String> getEnv() {
        return Host.environment
    }

    void echo(String message) {
        Host.log(message)
    }

    void error(String message) {
        Host.fail(message)
    }

    void sleep(Map options) {
        Continuable.suspend(options.time)
    }

    boolean isUnix() {
        return Host.unix()
    }

    @NonCPS
    Map string(Map binding) {
        return binding
    }

    Object withCredentials(List bindings, Closure body) {
        Map values = Host.credentials(bindings)
        Host.enter(values)
        try {
            return body()
        } finally {
            Host.leave(values)
        }
    }

    Object withEnv(List pairs, Closure body) {
        Map values = Host.pairs(pairs)
        Host.enter(values)
        try {
            return body()
        } finally {
            Host.leave(values)
        }
    }

    Object node(String label, Closure body) {
        Map values = Host.workspace()
        Host.enter(values)
        try {
            return body()
        } finally {
            Host.leave(values)
        }
    }

    Object stage(String name, Closure body) {
        return body()
    }

    @NonCPS
    Object getScm() {
        return 'scm'
    }

    void checkout(Object source) {
        Host.record('checkout', source as String)
    }

    Object sh(Object options) {
        return Host.shell(options)
    }

    Object powershell(Map options) {
        return Host.powershell(options)
    }

    void archiveArtifacts(Map options) {
        Host.record('archiveArtifacts', options.artifacts as String)
    }

    /** As Jenkins does: what a step of a library throws is taken up by the interpreter. */
    @NonCPS
    Object invokeMethod(String name, Object arguments) {
        Object step = binding.hasVariable(name) ? binding.getVariable(name) : null
        if (step == null) {
            return super.invokeMethod(name, arguments)
        }
        return step.call(*arguments)
    }
}
