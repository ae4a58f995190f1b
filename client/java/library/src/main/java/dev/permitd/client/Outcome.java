package dev.permitd.client;

/** How a call went. */
public enum Outcome {
    /** It worked. */
    SUCCESS,
    /** Refused for a rate of requests or tokens. */
    RATE_LIMITED,
    /** Refused for too many calls at once. */
    CONCURRENCY_LIMITED,
    /** The provider has no capacity for anybody. */
    OVERLOADED,
    /** Refused for growing too steeply. */
    ACCELERATION_LIMITED,
    /** Credit or spend cap used up: no call succeeds before a reset. */
    QUOTA_EXHAUSTED,
    /** This request can never succeed under the provider's limits. */
    TOO_LARGE,
    /** Sent, and failed for another reason. */
    FAILED,
    /** Never sent: everything goes back to the budget. */
    CANCELLED;

    permitd.v1.PermitOuterClass.Outcome toWire() {
        return permitd.v1.PermitOuterClass.Outcome.valueOf("OUTCOME_" + name());
    }

    /** An outcome that a newer server invented counts as a failure. */
    static Outcome fromWire(permitd.v1.PermitOuterClass.Outcome outcome) {
        return switch (outcome) {
            case OUTCOME_SUCCESS -> SUCCESS;
            case OUTCOME_RATE_LIMITED -> RATE_LIMITED;
            case OUTCOME_CONCURRENCY_LIMITED -> CONCURRENCY_LIMITED;
            case OUTCOME_OVERLOADED -> OVERLOADED;
            case OUTCOME_ACCELERATION_LIMITED -> ACCELERATION_LIMITED;
            case OUTCOME_QUOTA_EXHAUSTED -> QUOTA_EXHAUSTED;
            case OUTCOME_TOO_LARGE -> TOO_LARGE;
            case OUTCOME_CANCELLED -> CANCELLED;
            case OUTCOME_FAILED, OUTCOME_UNSPECIFIED, UNRECOGNIZED -> FAILED;
        };
    }
}
