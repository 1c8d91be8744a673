import type { Refusal } from './refusal.ts'

/** A sentence to show; as a function when it names how long to wait. */
export type Words = string | ((wait: string) => string)

const SERVER_FAILED = 'The server made a mistake. Try again in a moment.'

const PAGE_AND_SERVER_DISAGREE =
  'This page and the server do not understand each other. Reload the page, then try again.'

export const CHALLENGE_OVER =
  'The log-in was not finished in time, so it starts over. Enter your password again; then you have two minutes for the code.'

const WORDS: Record<string, Words> = {
  validation_failed: 'Something is missing or not as it should be. Check what you typed.',
  malformed_json: PAGE_AND_SERVER_DISAGREE,
  unsupported_media_type: PAGE_AND_SERVER_DISAGREE,
  method_not_allowed: PAGE_AND_SERVER_DISAGREE,
  not_found: 'The server does not offer this.',
  payload_too_large: 'That is more text than the server takes. Shorten it, then try again.',

  unauthenticated: 'You are not logged in any more. Log in again.',
  invalid_token: 'You are not logged in any more. Log in again.',
  step_up_required: 'This needs a fresh proof that it is you: log out, log in with a code, then try again.',
  invalid_credentials: 'The user name or the password is wrong. Check both (is caps lock on?), then try again.',

  totp_not_set_up:
    'There is no set-up to confirm: it was not finished within 15 minutes. Start it again to get a new QR code.',
  totp_already_enabled:
    'Two-factor authentication is already on. To use another phone, choose “Set up another phone or app”.',
  totp_not_enabled: 'Two-factor authentication is off for this account. Set it up first.',

  invalid_code:
    'That code is wrong. Type the six digits that the app shows right now. If they are never accepted, switch on automatic date and time on your phone.',
  code_already_used:
    'That code was used already, and each one works once. Wait for the next code in the app (at most 30 seconds).',
  challenge_invalid: CHALLENGE_OVER,
  recovery_link_invalid: 'This link has expired, was used or was stopped. Ask for a new one.',

  too_many_attempts: (wait) => `Too many wrong codes. You can try again ${wait}.`,
  second_factor_locked:
    'After very many wrong codes, codes of this kind are no longer accepted for this account, and waiting does not help. Use a backup code, or ask support to open it again.',
  throttled: (wait) => `That was too many tries in a short time. You can try again ${wait}.`,
  unavailable: (wait) => `The server cannot check this at the moment. You did nothing wrong; try again ${wait}.`,

  network_failed: 'The server cannot be reached. Check your connection, then try again.',
  server_failed: SERVER_FAILED,
}

export const WRONG_BACKUP_CODE =
  'That backup code is wrong or was used already: each one works once. Check it against your list, or take the next one.'

export const SESSION_ENDED = 'You were logged out: the log-in expired or was ended elsewhere. Log in again to go on.'

/** The sentence for a refusal. A view may say better what a code means there. */
export function wordsFor(refusal: Refusal, own: Record<string, Words> = {}): Words {
  const { code, detail, attemptsLeft, clockOffsetSeconds, retryAfterSeconds } = refusal
  if (code === 'recovery_link_invalid' && retryAfterSeconds !== null) return linkTooEarly
  const wordsOf = (which: string) => own[which] ?? WORDS[which] ?? detail ?? SERVER_FAILED
  const words = clockOffsetSeconds === null ? wordsOf(code) : clockIsOff(clockOffsetSeconds)
  if (attemptsLeft === null || typeof words !== 'string') return words
  if (attemptsLeft > 0) return `${words} ${triesLeft(attemptsLeft)}`
  // It was the last one: what holds from now on is what matters.
  if (retryAfterSeconds === null) return wordsOf('second_factor_locked')
  if (clockOffsetSeconds === null) return wordsOf('too_many_attempts')
  return (wait) => `${words} You can try again ${wait}.`
}

function triesLeft(count: number): string {
  return count === 1 ? 'One more try before you have to wait.' : `${count} more tries before you have to wait.`
}

/** @param offsetSeconds - how far the app is ahead; negative: behind */
function clockIsOff(offsetSeconds: number): string {
  const direction = offsetSeconds < 0 ? 'slow' : 'fast'
  return `The clock of your phone is about ${length(Math.abs(offsetSeconds))} ${direction}. Switch on automatic date and time there, or type the very next code that the app shows.`
}

function linkTooEarly(wait: string): string {
  return `This link does not work yet: the owner of the account is given time to stop it. You can use it ${wait}.`
}

function length(seconds: number): string {
  return seconds < 120 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`
}

/** `null` where the server did not say how long. */
export function inWords(seconds: number | null): string {
  if (seconds === null) return 'in a little while'
  if (seconds <= 0) return 'now'
  if (seconds < 90) return `in ${seconds} ${seconds === 1 ? 'second' : 'seconds'}`
  if (seconds < 3600) return `in ${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `in ${Math.floor(seconds / 3600)} h ${Math.ceil((seconds % 3600) / 60)} min`
}
