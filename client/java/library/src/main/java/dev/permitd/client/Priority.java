package dev.permitd.client;

/** Classes of requests. They share a budget by weight, 16 : 4 : 1, so that none starves. */
public enum Priority {
    /** Somebody is looking at a screen. */
    INTERACTIVE,
    /** The default. */
    STANDARD,
    /** Whenever there is room. */
    BATCH
}
