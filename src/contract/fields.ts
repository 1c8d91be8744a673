import { z } from 'zod'

/** Text that people type: trimmed, not blank, no NUL character and no half of a surrogate pair. */
export function textField(longest: number) {
  return wellFormed(z.string().trim().min(1).max(longest))
}

/** A password: taken as it is, spaces included. */
export function passwordField() {
  return wellFormed(z.string().min(1).max(1024))
}

/** A code of the app or a backup code, as typed. */
export function codeField() {
  return textField(64)
}

/** A yes or no; a form writes it as a word. */
export function booleanField() {
  const words = { error: 'This field must be true or false.' }
  return z
    .union([z.boolean(), z.enum(['true', 'false'])], words)
    .transform((value) => value === true || value === 'true')
}

function wellFormed(schema: z.ZodString) {
  return schema.refine(
    (value) => !value.includes('\0') && value.isWellFormed(),
    'This field contains characters that are not allowed.',
  )
}

/** A time on the wire: ISO 8601 in UTC, whole seconds. */
export function timeField() {
  return z.iso.datetime()
}

/** An e-mail address, as far as its form can say: something, an at sign, something, and no white space. */
export function emailField() {
  return textField(254).refine((value) => /^[^\s@]+@[^\s@]+$/.test(value), 'This field must be an email address.')
}

/**
 * What the OpenAPI document says of a schema beside its shape. A registry of our own: zod's global one belongs to the
 * host, whose schemas may have the same names.
 */
export const names = z.registry<{ id?: string; oneOf?: readonly { required: readonly string[] }[] }>()
