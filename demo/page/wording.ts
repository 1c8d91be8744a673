import type { Refusal } from './refusal.ts'

/** A sentence to show; as a function when it says how long to wait. */
export type Words = string | ((wait: string) => string)

const SERVER_FAILED = 'Something went wrong on the server. Try again in a moment.'

const PAGE_AND_SERVER_DISAGREE = 'This page is out of date. Reload it, then try again.'

export const CHALLENGE_OVER = 'This login has expired. Enter your password again.'

export const SETUP_OVER = 'The setup has expired, and nothing was changed. Start again.'

export const WRONG_PASSWORD = 'Incorrect password. Check it (is Caps Lock on?), then try again.'

export const WRONG_BACKUP_CODE =
  'This backup code is incorrect or was already used. Check your list, or use another code.'

export const SESSION_ENDED = 'Your session has ended. Log in again.'

const WORDS: Record<string, Words> = {
  validation_failed: 'Some fields are invalid. Check what you typed.',
  malformed_json: PAGE_AND_SERVER_DISAGREE,
  unsupported_media_type: PAGE_AND_SERVER_DISAGREE,
  method_not_allowed: PAGE_AND_SERVER_DISAGREE,
  not_found: 'This no longer exists. Reload the page.',
  payload_too_large: 'The text is too long. Shorten it, then try again.',

  unauthenticated: 'You are logged out. Log in again.',
  invalid_token: 'You are logged out. Log in again.',
  second_factor_required: 'Set up two-factor authentication first.',
  step_up_required: 'Confirm that it is you, then try again.',
  invalid_credentials: 'Incorrect username or password. Check both (is Caps Lock on?), then try again.',

  totp_not_set_up: SETUP_OVER,
  totp_already_enabled: 'Two-factor authentication is already on.',
  totp_not_enabled: 'Two-factor authentication is off. Set it up first.',

  invalid_code: 'Incorrect code. Check that you are using the code for this account, or wait for the next code.',
  code_already_used: (wait) => `You already used this code. Your app shows the next one ${wait}.`,
  challenge_invalid: CHALLENGE_OVER,
  recovery_link_invalid: 'This link has expired, was used, or was canceled. Request a new one.',

  too_many_attempts: (wait) => `Too many incorrect codes. You can try again ${wait}.`,
  second_factor_locked: 'Codes are locked after too many incorrect attempts. Contact support.',
  throttled: (wait) => `Too many attempts in a short time. You can try again ${wait}.`,
  unavailable: (wait) => `The server cannot check this right now. You did nothing wrong. Try again ${wait}.`,

  network_failed: 'The server cannot be reached. Check your connection, then try again.',
  server_failed: SERVER_FAILED,
}

/** Tries left are mentioned from here down: one slip is no reason to worry anybody. */
const FEW_TRIES = 2

/** The sentence for a refusal. A view may say better what a code means there. */
export function wordsFor(refusal: Refusal, own: Record<string, Words> = {}): Words {
  const { code, detail, attemptsLeft, clockOffsetSeconds } = refusal
  const wordsOf = (which: string) => own[which] ?? WORDS[which] ?? detail ?? SERVER_FAILED
  if (isLocked(refusal)) return wordsOf('second_factor_locked')
  const words = clockOffsetSeconds === null ? wordsOf(code) : clockIsOff(clockOffsetSeconds)
  if (attemptsLeft === null || typeof words !== 'string') return words
  if (attemptsLeft > 0) return attemptsLeft <= FEW_TRIES ? `${words} ${triesLeft(attemptsLeft)}` : words
  // It was the last one: what holds from now on is what matters.
  if (clockOffsetSeconds === null) return wordsOf('too_many_attempts')
  return (wait) => `${words} You can try again ${wait}.`
}

/** No further code of this kind is accepted, however long one waits. */
export function isLocked({ code, attemptsLeft, retryAfterSeconds }: Refusal): boolean {
  return code === 'second_factor_locked' || (attemptsLeft === 0 && retryAfterSeconds === null)
}

function triesLeft(left: number): string {
  return `You have ${left === 1 ? 'one more try' : `${left} more tries`} before you have to wait.`
}

/** @param offsetSeconds - how far the app is ahead; negative: behind */
function clockIsOff(offsetSeconds: number): string {
  const direction = offsetSeconds < 0 ? 'slow' : 'fast'
  return `Your phone’s clock is about ${duration(Math.abs(offsetSeconds))} ${direction}. Enter the next code that your app shows, and turn on automatic date and time.`
}

function duration(seconds: number): string {
  return seconds < 120 ? count(seconds, 'second') : count(Math.round(seconds / 60), 'minute')
}

export function count(number: number, unit: string): string {
  return `${number} ${number === 1 ? unit : `${unit}s`}`
}

/** `null` where the server did not say how long. */
export function inWords(seconds: number | null): string {
  if (seconds === null) return 'in a moment'
  if (seconds <= 0) return 'now'
  if (seconds < 90) return `in ${count(seconds, 'second')}`
  if (seconds < 3600) return `in ${Math.floor(seconds / 60)} min ${seconds % 60} s`
  const minutes = Math.ceil(seconds / 60)
  return minutes % 60 === 0 ? `in ${minutes / 60} h` : `in ${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** For a button: “0:45”. */
export function countdown(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}
