package dev.permitd.client;

import java.util.HashMap;
import java.util.Map;
import permitd.v1.PermitOuterClass.Usage;

/** Amounts per unit, all of them known: what a permit of the local share holds. Nothing overflows: it saturates. */
record Amounts(long requests, long inputTokens, long outputTokens, long tokens, Map<String, Long> others) {

    /** As the server reads an estimate, but that nothing is known of outputs that are left open: they count with their bound. */
    static Amounts estimated(Usage estimate) {
        long input = 0;
        long output = estimate.hasMaxOutputTokens() ? cut(estimate.getMaxOutputTokens()) : 0;
        long both = cut(estimate.getTokens());
        if (estimate.hasInputTokens()) {
            input = cut(estimate.getInputTokens());
            output = estimate.hasTokens() ? Math.max(0, both - input) : output;
        } else if (estimate.hasTokens() && estimate.hasOutputTokens()) {
            input = Math.max(0, both - cut(estimate.getOutputTokens()));
        } else if (estimate.hasTokens()) {
            input = both;
        }
        if (estimate.hasOutputTokens()) {
            output = cut(estimate.getOutputTokens());
        }
        long requests = estimate.hasRequests() ? cut(estimate.getRequests()) : 1;
        return new Amounts(requests, input, output, sum(input, output), others(estimate));
    }

    /** What is left out was used as charged. */
    Amounts settledBy(Usage actual) {
        long input = actual.hasInputTokens() ? cut(actual.getInputTokens()) : inputTokens;
        long output = actual.hasOutputTokens() ? cut(actual.getOutputTokens()) : outputTokens;
        Map<String, Long> settled = new HashMap<>(others);
        settled.putAll(others(actual));
        return new Amounts(
                actual.hasRequests() ? cut(actual.getRequests()) : requests,
                input,
                output,
                actual.hasTokens() ? cut(actual.getTokens()) : sum(input, output),
                settled);
    }

    /** Nothing: the call was never sent. */
    static Amounts none() {
        return new Amounts(0, 0, 0, 0, Map.of());
    }

    long of(String unit) {
        return switch (unit) {
            case "requests" -> requests;
            case "tokens" -> tokens;
            case "input_tokens" -> inputTokens;
            case "output_tokens" -> outputTokens;
            default -> others.getOrDefault(unit, 0L);
        };
    }

    dev.permitd.client.Usage toUsage() {
        dev.permitd.client.Usage usage = dev.permitd.client.Usage.none()
                .requests(requests)
                .tokens(tokens)
                .inputTokens(inputTokens)
                .outputTokens(outputTokens);
        for (var other : others.entrySet()) {
            usage = usage.other(other.getKey(), other.getValue());
        }
        return usage;
    }

    private static Map<String, Long> others(Usage usage) {
        Map<String, Long> others = new HashMap<>();
        usage.getOtherMap().forEach((unit, amount) -> others.put(unit, cut(amount)));
        return others;
    }

    private static long sum(long one, long other) {
        return one > Long.MAX_VALUE - other ? Long.MAX_VALUE : one + other;
    }

    /** The wire's amounts have one bit more than a long. */
    private static long cut(long amount) {
        return amount < 0 ? Long.MAX_VALUE : amount;
    }
}
