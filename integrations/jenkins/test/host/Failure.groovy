/** What the step `error` ends a pipeline with. */
class Failure extends RuntimeException {
    Failure(String message) {
        super(message)
    }
}
