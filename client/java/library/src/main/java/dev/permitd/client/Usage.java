package dev.permitd.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import java.math.BigInteger;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;
import java.util.TreeMap;
import permitd.v1.PermitOuterClass;

/**
 * Amounts per unit: an estimate when asking, the actual use when reporting. Every unit is optional: absent means "unknown" in an
 * estimate and "as charged" in a report. Immutable.
 *
 * <pre>{@code
 * Usage estimate = Usage.none().inputTokens(900).maxOutputTokens(400);
 * Usage points = Usage.none().other("points", 5);
 * }</pre>
 *
 * <p>Amounts are whole numbers from 0 to {@link Long#MAX_VALUE}; a negative one is refused with an
 * {@link IllegalArgumentException} that names the unit. The wire has one bit more: {@link #amount} and {@link #amounts()} know all of
 * it, the other readers cut what is larger to {@link Long#MAX_VALUE}.
 */
public final class Usage {
    private static final Usage NONE = new Usage(PermitOuterClass.Usage.getDefaultInstance());

    private final PermitOuterClass.Usage wire;

    private Usage(PermitOuterClass.Usage wire) {
        this.wire = wire;
    }

    /** Nothing known. */
    public static Usage none() {
        return NONE;
    }

    /** So many calls; absent means 1. */
    public Usage requests(long amount) {
        return new Usage(wire.toBuilder().setRequests(checked("requests", amount)).build());
    }

    /**
     * So many tokens, input and output together; but alone in an estimate it is the input, and what comes out is learned and charged
     * on top.
     */
    public Usage tokens(long amount) {
        return new Usage(wire.toBuilder().setTokens(checked("tokens", amount)).build());
    }

    /** So many tokens into the model. */
    public Usage inputTokens(long amount) {
        return new Usage(wire.toBuilder().setInputTokens(checked("input_tokens", amount)).build());
    }

    /** So many tokens out of the model. */
    public Usage outputTokens(long amount) {
        return new Usage(wire.toBuilder().setOutputTokens(checked("output_tokens", amount)).build());
    }

    /** At most so many tokens out of the model; for estimates. */
    public Usage maxOutputTokens(long amount) {
        return new Usage(wire.toBuilder().setMaxOutputTokens(checked("max_output_tokens", amount)).build());
    }

    /** So many of the input tokens came from the provider's cache; for reports. */
    public Usage cachedInputTokens(long amount) {
        return new Usage(wire.toBuilder().setCachedInputTokens(checked("cached_input_tokens", amount)).build());
    }

    /** So much of any further unit, for example {@code points} or {@code usd_micros}. */
    public Usage other(String unit, long amount) {
        Objects.requireNonNull(unit, "unit");
        return new Usage(wire.toBuilder().putOther(unit, checked(unit, amount)).build());
    }

    /**
     * So much of the unit of this name, up to the wire's 2^64 - 1: {@code tokens}, {@code input_tokens} and so on, or any further one.
     *
     * @throws IllegalArgumentException less than 0, or more than the wire holds
     */
    public Usage amount(String unit, BigInteger amount) {
        Objects.requireNonNull(unit, "unit");
        if (amount.signum() < 0 || amount.bitLength() > Long.SIZE) {
            throw new IllegalArgumentException(unit + ": " + amount + " is outside of 0 to 2^64 - 1");
        }
        PermitOuterClass.Usage.Builder builder = wire.toBuilder();
        FieldDescriptor field = PermitOuterClass.Usage.getDescriptor().findFieldByName(unit);
        if (field == null || field.isRepeated()) {
            builder.putOther(unit, amount.longValue());
        } else {
            builder.setField(field, amount.longValue());
        }
        return new Usage(builder.build());
    }

    /** Everything that is known, by the wire's names, exactly. */
    public Map<String, BigInteger> amounts() {
        Map<String, BigInteger> amounts = new TreeMap<>();
        wire.getOtherMap().forEach((unit, amount) -> amounts.put(unit, unsigned(amount)));
        wire.getAllFields().forEach((field, amount) -> {
            if (!field.isRepeated()) {
                amounts.put(field.getName(), unsigned((Long) amount));
            }
        });
        return amounts;
    }

    /** Calls. */
    public OptionalLong requests() {
        return read(wire.hasRequests(), wire.getRequests());
    }

    /** Input and output together; alone in an estimate, the input. */
    public OptionalLong tokens() {
        return read(wire.hasTokens(), wire.getTokens());
    }

    /** What goes into the model. */
    public OptionalLong inputTokens() {
        return read(wire.hasInputTokens(), wire.getInputTokens());
    }

    /** What comes out of the model. */
    public OptionalLong outputTokens() {
        return read(wire.hasOutputTokens(), wire.getOutputTokens());
    }

    /** A bound on the output. */
    public OptionalLong maxOutputTokens() {
        return read(wire.hasMaxOutputTokens(), wire.getMaxOutputTokens());
    }

    /** The part of the input that the provider read from its cache. */
    public OptionalLong cachedInputTokens() {
        return read(wire.hasCachedInputTokens(), wire.getCachedInputTokens());
    }

    /** Further units by name, in order. */
    public Map<String, Long> others() {
        Map<String, Long> others = new TreeMap<>();
        wire.getOtherMap().forEach((unit, amount) -> others.put(unit, saturated(amount)));
        return others;
    }

    /** Whether nothing is known. */
    public boolean isEmpty() {
        return wire.equals(NONE.wire);
    }

    static Usage fromWire(PermitOuterClass.Usage wire) {
        return new Usage(wire);
    }

    PermitOuterClass.Usage toWire() {
        return wire;
    }

    static long checked(String unit, long amount) {
        if (amount < 0) {
            throw new IllegalArgumentException(unit + ": " + amount + " is negative; amounts are at least 0");
        }
        return amount;
    }

    private static OptionalLong read(boolean present, long amount) {
        return present ? OptionalLong.of(saturated(amount)) : OptionalLong.empty();
    }

    private static BigInteger unsigned(long amount) {
        return new BigInteger(Long.toUnsignedString(amount));
    }

    /** The wire's amounts have one bit more than a long. */
    private static long saturated(long amount) {
        return amount < 0 ? Long.MAX_VALUE : amount;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Usage usage && wire.equals(usage.wire);
    }

    @Override
    public int hashCode() {
        return wire.hashCode();
    }

    @Override
    public String toString() {
        return "Usage" + amounts();
    }
}
