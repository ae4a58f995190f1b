package dev.permitd.client.http;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.function.Consumer;

/** Finds the JSON documents in a body that passes by in pieces. What is larger than its bound is passed over. */
interface Documents {
    /** The next bytes; documents that are whole now go to {@code each}. */
    void add(byte[] bytes, int offset, int length, Consumer<String> each);

    /** The body has ended. */
    void end(Consumer<String> each);

    /** A body that is one document. */
    final class Whole implements Documents {
        /** Bytes of a body that is looked at. */
        private static final int BYTES_MAX = 16 * 1024 * 1024;

        private final ByteArrayOutputStream body = new ByteArrayOutputStream();
        private boolean isTooLarge;

        @Override
        public void add(byte[] bytes, int offset, int length, Consumer<String> each) {
            isTooLarge |= body.size() + length > BYTES_MAX;
            if (isTooLarge) {
                body.reset();
            } else {
                body.write(bytes, offset, length);
            }
        }

        @Override
        public void end(Consumer<String> each) {
            if (body.size() > 0) {
                each.accept(body.toString(StandardCharsets.UTF_8));
            }
        }
    }

    /** A stream of server-sent events, each with a document in its {@code data}. */
    final class Stream implements Documents {
        /** Bytes of a line, and of an event, that are looked at. */
        private static final int BYTES_MAX = 1024 * 1024;

        private static final String DATA = "data:";

        private final ByteArrayOutputStream line = new ByteArrayOutputStream();
        private final StringBuilder data = new StringBuilder();
        private boolean isTooLarge;
        private boolean wasReturn;

        @Override
        public void add(byte[] bytes, int offset, int length, Consumer<String> each) {
            for (int at = offset; at < offset + length; at++) {
                byte next = bytes[at];
                // A line ends with \r, \n, or both.
                if (next == '\n' && wasReturn) {
                    wasReturn = false;
                    continue;
                }
                wasReturn = next == '\r';
                if (next == '\n' || next == '\r') {
                    endLine(each);
                } else if (line.size() < BYTES_MAX) {
                    line.write(next);
                } else {
                    isTooLarge = true;
                }
            }
        }

        @Override
        public void end(Consumer<String> each) {
            // Some servers leave out the last empty line.
            endLine(each);
            endEvent(each);
        }

        private void endLine(Consumer<String> each) {
            if (line.size() == 0) {
                endEvent(each);
                return;
            }
            String text = line.toString(StandardCharsets.UTF_8);
            line.reset();
            if (text.startsWith(DATA)) {
                isTooLarge |= data.length() + text.length() > BYTES_MAX;
                if (!isTooLarge) {
                    data.append(text, DATA.length(), text.length()).append('\n');
                }
            }
        }

        private void endEvent(Consumer<String> each) {
            if (data.length() > 0 && !isTooLarge) {
                each.accept(data.toString());
            }
            data.setLength(0);
            isTooLarge = false;
        }
    }
}
