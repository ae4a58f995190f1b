// Numbers, spans and moments as people read them.

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat("en-CA");

/** With thousands set apart. */
export function grouped(number) {
  return NUMBER.format(number);
}

/** In short: 950, 12.3k, 4.5M. */
export function short(number) {
  const size = Math.abs(number);
  if (size < 10_000) return grouped(number);
  const [scale, unit] = size < 1e6 ? [1e3, "k"] : size < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${(number / scale).toFixed(size / scale < 100 ? 1 : 0)}${unit}`;
}

/** A span in seconds: 350ms, 3.2s, 45s, 12m, 5h, 3d. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.ceil(seconds * 1_000)}ms`;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  if (seconds < 120) return `${Math.ceil(seconds)}s`;
  if (seconds < 7_200) return `${Math.ceil(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.ceil(seconds / 3_600)}h`;
  return `${Math.ceil(seconds / 86_400)}d`;
}

/** How long until a moment, by the server's clock. */
export function left(until, now) {
  const seconds = (Date.parse(until) - Date.parse(now)) / 1_000;
  return seconds > 0 ? `${span(seconds)} left` : "about to end";
}

/** A moment by this machine's clock and zone. */
export function moment(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? "" : `${DAY.format(at)} ${CLOCK.format(at)}`;
}

/** Tells moments by the clocks of a place, with the day of the week; by those of this machine if it knows no such place. */
export function calendar(zone) {
  const form = { weekday: "short", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };
  let format;
  try {
    format = new Intl.DateTimeFormat("en-US", { ...form, timeZone: zone });
  } catch {
    format = new Intl.DateTimeFormat("en-US", form);
  }
  return (text) => {
    const part = Object.fromEntries(format.formatToParts(new Date(text)).map(({ type, value }) => [type, value]));
    return `${part.weekday} ${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute} ${part.timeZoneName}`;
  };
}

/** The time of day. */
export function clock(at) {
  return CLOCK.format(at);
}

/** Thousandths as per cent. */
export function percent(permille) {
  return `${Math.floor(permille / 10)} %`;
}

/** `1 budget`, `2 budgets`. */
export function counted(number, one, many) {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}

/** What keeps a budget, or some limit of it, from granting anything; empty if nothing does. */
export function halt({ paused, exhausted, exhausted_until, frozen_until }, now) {
  if (paused) return "paused";
  if (exhausted) return exhausted_until ? `exhausted, ${left(exhausted_until, now)}` : "exhausted";
  return frozen_until ? `frozen, ${left(frozen_until, now)}` : "";
}
