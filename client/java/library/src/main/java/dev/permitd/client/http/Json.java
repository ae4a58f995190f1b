package dev.permitd.client.http;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonPrimitive;
import com.google.gson.Strictness;
import com.google.gson.TypeAdapter;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;
import java.math.BigInteger;
import java.util.List;
import java.util.Optional;

/** Reads JSON of strangers: strictly, to a bounded depth, and without an exception for what is none. */
final class Json {
    /** The most that the wire holds: 2^64 - 1. */
    static final BigInteger AMOUNT_MAX = BigInteger.ONE.shiftLeft(Long.SIZE).subtract(BigInteger.ONE);

    /** Arrays and objects in each other. */
    private static final int DEPTH_MAX = 128;

    private static final TypeAdapter<JsonElement> ELEMENTS = new Gson().getAdapter(JsonElement.class);

    private Json() {}

    static Optional<JsonElement> parse(String text) {
        JsonReader reader = new JsonReader(new StringReader(text));
        reader.setStrictness(Strictness.STRICT);
        reader.setNestingLimit(DEPTH_MAX);
        try {
            JsonElement element = ELEMENTS.read(reader);
            return reader.peek() == JsonToken.END_DOCUMENT ? Optional.of(element) : Optional.empty();
        } catch (IOException | JsonParseException | IllegalStateException | NumberFormatException noJson) {
            return Optional.empty();
        }
    }

    /** What stands at this path of names; null if nothing does. */
    static JsonElement at(JsonElement root, List<String> path) {
        JsonElement at = root;
        for (String name : path) {
            at = at instanceof JsonObject fields ? fields.get(name) : null;
        }
        return at;
    }

    /** A whole number from 0 to {@link #AMOUNT_MAX}, written as such; anything else is absent. */
    static Optional<BigInteger> amount(JsonElement value) {
        if (!(value instanceof JsonPrimitive primitive) || !primitive.isNumber()) {
            return Optional.empty();
        }
        String digits = primitive.getAsString();
        // One digit more than the largest amount has would never fit.
        if (digits.length() > 20 || !digits.chars().allMatch(c -> c >= '0' && c <= '9')) {
            return Optional.empty();
        }
        return Optional.of(new BigInteger(digits)).filter(amount -> amount.compareTo(AMOUNT_MAX) <= 0);
    }
}
