package dev.permitd.client;

import java.time.Duration;
import permitd.v1.BudgetOuterClass.Limit;

/** Limits as the server calls them: {@code input_tokens/1m model=claude-* tenant=each}, {@code in_flight}. */
final class LimitNames {
    private LimitNames() {}

    static String name(Limit limit) {
        StringBuilder name = new StringBuilder(limit.getUnit());
        if (limit.hasPer()) {
            name.append('/').append(span(Spans.fromWire(limit.getPer())));
        }
        if (!limit.getModels().isEmpty()) {
            name.append(" model=").append(limit.getModels());
        }
        if (!limit.getTenants().isEmpty()) {
            name.append(" tenant=").append(limit.getTenants());
        }
        return name.toString();
    }

    /** In the largest unit that leaves nothing over. */
    private static String span(Duration span) {
        long millis = span.toMillis();
        if (millis % 86_400_000 == 0) {
            return millis / 86_400_000 + "d";
        }
        if (millis % 3_600_000 == 0) {
            return millis / 3_600_000 + "h";
        }
        if (millis % 60_000 == 0) {
            return millis / 60_000 + "m";
        }
        return millis % 1_000 == 0 ? millis / 1_000 + "s" : millis + "ms";
    }
}
