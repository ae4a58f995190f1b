package dev.permitd.client;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;

/** A token: who has it is who it was made for. Not shown by {@link #toString()}. */
public final class Token {
    private final Source source;

    private Token(Source source) {
        this.source = source;
    }

    /** This one. */
    public static Token of(String token) {
        Objects.requireNonNull(token, "token");
        return new Token(new Source(token.getBytes(StandardCharsets.UTF_8), null));
    }

    /** The one in this file, read anew for every connection; white space around it does not count. */
    public static Token file(Path path) {
        Objects.requireNonNull(path, "path");
        return new Token(new Source(null, path));
    }

    /** What goes into the header. */
    String bearer() throws PermitException {
        String token = new String(source.read("token"), StandardCharsets.UTF_8).strip();
        if (token.isEmpty() || !token.chars().allMatch(c -> c > ' ' && c < 0x7f)) {
            throw PermitException.invalid("token", "is empty, or has characters that no token has");
        }
        return "Bearer " + token;
    }

    @Override
    public String toString() {
        return "Token{" + source + "}";
    }

    /** Where a secret or a certificate is read from. */
    record Source(byte[] text, Path path) {
        byte[] read(String field) throws PermitException {
            if (path == null) {
                return text;
            }
            try {
                return Files.readAllBytes(path);
            } catch (IOException problem) {
                throw PermitException.invalid(field, "can't read " + path + ": " + problem);
            }
        }

        @Override
        public String toString() {
            return path == null ? "(not shown)" : path.toString();
        }
    }
}
