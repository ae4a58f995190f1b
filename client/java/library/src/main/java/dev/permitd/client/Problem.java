package dev.permitd.client;

import io.grpc.Status;

/**
 * Why there is no session (any more).
 *
 * @param text for people
 * @param isDefinitive trying the same endpoint again will not help by itself
 * @param isElsewhere the server asks to be left alone
 */
record Problem(String text, boolean isDefinitive, boolean isElsewhere) {
    /** How the transport calls what it can't read as HTTP/2. */
    private static final String NO_HTTP2 = "Http2Exception";

    static Problem passing(String text) {
        return new Problem(text, false, false);
    }

    static Problem definitive(String text) {
        return new Problem(text, true, false);
    }

    /** Whose problem it is. */
    Problem at(Endpoint endpoint) {
        return new Problem(endpoint.address() + " " + text, isDefinitive, isElsewhere);
    }

    /** Reads how a session ended that was let in. A token that expired since may have been renewed. */
    static Problem midway(Status status) {
        Problem problem = of(status);
        boolean isDefinitive = problem.isDefinitive && status.getCode() != Status.Code.UNAUTHENTICATED;
        return new Problem(problem.text, isDefinitive, problem.isElsewhere);
    }

    /** Reads how a stream ended. */
    static Problem of(Status status) {
        if (speaksNoHttp2(status.getCause())) {
            return definitive("does not speak HTTP/2, so it is not a permitd server; check the port");
        }
        return switch (status.getCode()) {
            case OK -> passing("ended the session");
            case UNAVAILABLE -> new Problem("is unavailable (" + innermost(status) + ")", false, true);
            case UNIMPLEMENTED -> definitive("speaks gRPC but has no permit service: it is not a permitd server");
            case UNAUTHENTICATED, PERMISSION_DENIED -> definitive(
                    "does not let this client in: " + status.getDescription());
            case INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE -> definitive(
                    "refused the session: " + status.getDescription());
            default -> passing("broke the session (" + status.getCode() + ": " + innermost(status) + ")");
        };
    }

    private static boolean speaksNoHttp2(Throwable cause) {
        for (Throwable at = cause; at != null; at = at.getCause()) {
            if (at.getClass().getSimpleName().equals(NO_HTTP2) && String.valueOf(at.getMessage()).contains("not SETTINGS")) {
                return true;
            }
        }
        return false;
    }

    /** The last cause says most: "Connection refused", not "io exception". */
    private static String innermost(Status status) {
        String text = status.getDescription();
        for (Throwable at = status.getCause(); at != null; at = at.getCause()) {
            if (at.getMessage() != null) {
                text = at.getMessage();
            }
        }
        return String.valueOf(text);
    }
}
