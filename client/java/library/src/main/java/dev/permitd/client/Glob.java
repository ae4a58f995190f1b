package dev.permitd.client;

/** A pattern over names: {@code *} stands for any characters, {@code ?} for one. An empty pattern matches every name. */
final class Glob {
    private Glob() {}

    /** Takes time in proportion to the product of the lengths at most. */
    static boolean matches(String pattern, String name) {
        if (pattern.isEmpty()) {
            return true;
        }
        int p = 0;
        int n = 0;
        int star = -1;
        int resume = 0;
        while (n < name.length()) {
            if (p < pattern.length() && pattern.charAt(p) == '*') {
                star = p++;
                resume = n;
            } else if (p < pattern.length() && (pattern.charAt(p) == '?' || pattern.charAt(p) == name.charAt(n))) {
                p++;
                n++;
            } else if (star >= 0) {
                p = star + 1;
                n = ++resume;
            } else {
                return false;
            }
        }
        while (p < pattern.length() && pattern.charAt(p) == '*') {
            p++;
        }
        return p == pattern.length();
    }
}
