package dev.permitd.client;

import java.time.Duration;
import java.time.Instant;
import java.util.Optional;

/**
 * What is known of a permit.
 *
 * @param permitId the server's opaque id; empty if no server granted it
 * @param provider the API to be called
 * @param key the alias of the credential to be used
 * @param charged what the permit holds
 * @param waited how long the request was in the queue
 * @param expiresAt when the permit was to end by itself, by the server's clock, as it was granted; while its guard lives the client
 *     extends it. Absent if no server granted it
 * @param source who granted it
 */
public record Permit(
        String permitId,
        String provider,
        String key,
        Usage charged,
        Duration waited,
        Optional<Instant> expiresAt,
        Source source) {

    /** Who granted a permit. */
    public enum Source {
        /** A permitd server. */
        SERVER,
        /** This client's local share, while no server could be reached. */
        LOCAL_SHARE,
        /** Nobody: no server could be reached and the policy is to go on ({@link OutagePolicy#FAIL_OPEN}). */
        FAIL_OPEN
    }

    static Permit fromWire(permitd.v1.PermitOuterClass.Permit permit) {
        return new Permit(
                permit.getPermitId(),
                permit.getProvider(),
                permit.getKey(),
                Usage.fromWire(permit.getCharged()),
                Spans.fromWire(permit.getWaited()),
                permit.hasExpiresAt() ? instant(permit.getExpiresAt()) : Optional.empty(),
                Source.SERVER);
    }

    /** Instants that java.time cannot hold count as unknown. */
    private static Optional<Instant> instant(com.google.protobuf.Timestamp at) {
        try {
            return Optional.of(Instant.ofEpochSecond(at.getSeconds(), at.getNanos()));
        } catch (java.time.DateTimeException | ArithmeticException outOfRange) {
            return Optional.empty();
        }
    }
}
