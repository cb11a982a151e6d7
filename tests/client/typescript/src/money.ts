/** Amounts are decimal strings and base units; a number would lose digits. */

/** The base units of a decimal string. */
export function units(amount: string, decimals: number): bigint {
  const [whole = "", fraction = ""] = amount.split(".");
  if (fraction.length > decimals) throw new Error(`${amount} has more than ${decimals} places`);
  return BigInt(whole + fraction.padEnd(decimals, "0"));
}
