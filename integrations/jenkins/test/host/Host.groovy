/** What is outside the pipeline: never saved with it. */
class Host {
    static Map<String, String> environment = new TreeMap<String, String>(Pipeline.plan.environment as Map)

    static boolean unix() {
        return Pipeline.plan.unix
    }

    static void log(String message) {
        println(message)
        System.out.flush()
    }

    static void fail(String message) {
        throw new Failure(message)
    }

    static void record(String... call) {
        Pipeline.calls << call.toList()
    }

    static Map credentials(List bindings) {
        return bindings.collectEntries { [it.variable, Pipeline.plan.credentials[it.credentialsId]] }
    }

    static Map pairs(List pairs) {
        record(['withEnv', *pairs] as String[])
        return pairs.collectEntries { String one -> one.split('=', 2).toList() }
    }

    static Map workspace() {
        return [WORKSPACE: Pipeline.plan.workspace]
    }

    static void enter(Map values) {
        environment.putAll(values)
    }

    static void leave(Map values) {
        values.keySet().each { environment.remove(it) }
    }

    static Object shell(Object options) {
        String script = options instanceof Map ? options.script : options
        record('sh', script)
        int status = run(['/bin/sh', '-c', script])
        if (options instanceof Map && options.returnStatus) {
            return status
        }
        if (status != 0) {
            fail("script returned exit code ${status}")
        }
        return null
    }

    static Object powershell(Map options) {
        record('powershell', options.script as String)
        File file = File.createTempFile('script', '.ps1')
        try {
            file.text = options.script
            return run([Pipeline.plan.powershell, '-NoProfile', '-File', file.path])
        } finally {
            file.delete()
        }
    }

    private static int run(List<String> command) {
        ProcessBuilder builder = new ProcessBuilder(command).directory(new File(Pipeline.plan.workspace as String))
        builder.environment().putAll(environment)
        Process process = builder.redirectErrorStream(true).start()
        process.outputStream.close()
        print(process.inputStream.text)
        return process.waitFor()
    }
}
