package dev.permitd.client;

/** How budgets are named in the client: as the server does. */
final class Budgets {
    private Budgets() {}

    static String name(String provider, String key) {
        return provider + "/" + (key.isEmpty() ? "default" : key);
    }
}
