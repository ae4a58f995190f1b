// What `Math` has for numbers only.

export function least(one: bigint, other: bigint): bigint {
  const isLess = one < other;
  return isLess ? one : other;
}

export function most(one: bigint, other: bigint): bigint {
  const isLess = one < other;
  return isLess ? other : one;
}
