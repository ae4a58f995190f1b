package dev.permitd.client;

/**
 * How a call went, for the local share, which has no profile: what is not said outright is read from the status alone.
 *
 * @param outcome as classified
 * @param isRetried whether the call is worth another try: as on the server, no 4xx but 408 is
 */
record LocalOutcome(Outcome outcome, boolean isRetried) {
    static LocalOutcome of(Report report) {
        int status = report.toWire().getHttpStatus();
        Outcome outcome = report.outcome().orElseGet(() -> byStatus(status));
        boolean isRetried =
                switch (outcome) {
                    case RATE_LIMITED, CONCURRENCY_LIMITED, OVERLOADED, ACCELERATION_LIMITED -> true;
                    case FAILED -> status == 408 || status < 400 || status > 499;
                    case SUCCESS, QUOTA_EXHAUSTED, TOO_LARGE, CANCELLED -> false;
                };
        return new LocalOutcome(outcome, isRetried);
    }

    /** Whether the provider wants to be left alone for a while. */
    boolean isRefusal() {
        return switch (outcome) {
            case RATE_LIMITED, CONCURRENCY_LIMITED, OVERLOADED, ACCELERATION_LIMITED, QUOTA_EXHAUSTED -> true;
            case SUCCESS, TOO_LARGE, FAILED, CANCELLED -> false;
        };
    }

    private static Outcome byStatus(int status) {
        if (status < 400) {
            return Outcome.SUCCESS;
        }
        return switch (status) {
            case 429 -> Outcome.RATE_LIMITED;
            case 503, 529 -> Outcome.OVERLOADED;
            case 413 -> Outcome.TOO_LARGE;
            default -> Outcome.FAILED;
        };
    }
}
