import { announce, el, newId } from './dom.ts'
import { Refusal } from './refusal.ts'
import { countdown, inWords, isLocked, type Words, wordsFor } from './wording.ts'

/** One place for what went wrong, read out when it changes. It carries `data-error` only while it says something. */
export interface ErrorRegion {
  readonly element: HTMLElement
  say(words: Words, wait?: Wait | null): void
  /** Words a refusal. Anything else is a bug of this page: said in general terms, then thrown on. */
  explain(error: unknown, own?: Record<string, Words>, follow?: Follow): void
  clear(): void
}

interface Wait extends Follow {
  seconds: number
}

/** What else shows a wait. */
interface Follow {
  tick?: (secondsLeft: number) => void
  /** The wait is over, or something else happened. */
  end?: () => void
}

/** Of the region that spoke last: its message is stale once something new is tried, or something else went wrong. */
let silence = () => {}

export function errorRegion(): ErrorRegion {
  const element = el('p', { class: 'error', id: newId(), 'aria-live': 'assertive', 'aria-atomic': 'true' })
  let ticking: ReturnType<typeof setInterval> | undefined
  let ended = () => {}

  function say(words: Words, wait: Wait | null = null): void {
    silence()
    silence = clear
    element.setAttribute('aria-live', 'assertive')
    element.toggleAttribute('data-error', true)
    element.textContent = typeof words === 'string' ? words : words(inWords(wait?.seconds ?? null))
    if (typeof words === 'string' || wait === null) return
    countDown(words, wait)
  }

  function countDown(words: (wait: string) => string, { seconds, tick = () => {}, end = () => {} }: Wait): void {
    const endsAtMs = Date.now() + seconds * 1000
    ended = end
    tick(seconds)
    ticking = setInterval(() => {
      if (!element.isConnected) return clearInterval(ticking)
      const secondsLeft = Math.ceil((endsAtMs - Date.now()) / 1000)
      if (secondsLeft <= 0) {
        clear()
        return announce('You can try again now.')
      }
      // A screen reader hears the first sentence and the last, not one each second.
      element.setAttribute('aria-live', 'off')
      element.textContent = words(inWords(secondsLeft))
      tick(secondsLeft)
    }, 1000)
  }

  function clear(): void {
    clearInterval(ticking)
    element.removeAttribute('data-error')
    element.textContent = ''
    const end = ended
    ended = () => {}
    end()
  }

  function explain(error: unknown, own?: Record<string, Words>, follow: Follow = {}): void {
    if (!(error instanceof Refusal)) {
      say('Something went wrong on this page. Reload it, then try again.')
      throw error
    }
    // The page is on its way to the login view, which says why.
    if (error.code === 'session_ended') return
    const seconds = error.retryAfterSeconds
    say(wordsFor(error, own), seconds === null ? null : { seconds, ...follow })
  }

  return { element, say, explain, clear }
}

export interface Field {
  readonly row: HTMLElement
  readonly input: HTMLInputElement
  readonly label: HTMLElement
  readonly hint: HTMLElement
  readonly problem: HTMLElement
  /** What is wrong with the present value, before anything is sent; null when nothing is. */
  check(): string | null
}

export interface FieldOptions {
  name: string
  label: string
  hint?: string
  value?: string
  type?: 'text' | 'email' | 'password'
  check?: (value: string) => string | null
  /** Said when nothing was typed. */
  empty?: string
  /** It may stay empty. */
  optional?: boolean
  attributes: Record<string, string>
}

export function field(options: FieldOptions): Field {
  const { name, label, hint = '', value = '', type = 'text', check, optional = false, attributes } = options
  const { empty = 'Enter a value.' } = options
  const input = el('input', {
    ...attributes,
    id: newId(),
    name,
    type,
    value,
    spellcheck: 'false',
    autocapitalize: 'none',
  })
  const labelElement = el('label', { for: input.id }, label)
  const hintElement = el('p', { class: 'hint', id: newId() }, hint)
  const problem = el('p', { class: 'field-problem', id: newId() })
  return {
    row: el(
      'div',
      { class: 'field' },
      labelElement,
      hintElement,
      type === 'password' ? revealable(input) : input,
      problem,
    ),
    input,
    label: labelElement,
    hint: hintElement,
    problem,
    check() {
      if (input.value.trim() === '') return optional ? null : empty
      return check?.(input.value) ?? null
    },
  }
}

export function passwordField(label: string, autocomplete: string, hint = ''): Field {
  return field({
    name: 'password',
    label,
    hint,
    type: 'password',
    empty: 'Enter your password.',
    attributes: { autocomplete },
  })
}

export function emailField(): Field {
  return field({
    name: 'email',
    label: 'Email address',
    empty: 'Enter your email address.',
    type: 'email',
    attributes: { autocomplete: 'email' },
    check: (value) => (/^\S+@\S+$/.test(value.trim()) ? null : 'Enter an email address, such as name@example.org.'),
  })
}

function revealable(input: HTMLInputElement): HTMLElement {
  const verb = el('span', {}, 'Show')
  const button = el('button', { type: 'button', class: 'reveal', onclick: toggle }, verb, hidden(' password'))

  function toggle(): void {
    const wasShown = input.type === 'text'
    input.type = wasShown ? 'password' : 'text'
    verb.textContent = wasShown ? 'Show' : 'Hide'
  }

  return el('div', { class: 'with-reveal' }, input, button)
}

function hidden(text: string): HTMLElement {
  return el('span', { class: 'visually-hidden' }, text)
}

export interface FormOptions {
  /** `data-action` of the submit button. */
  action: string
  label: string
  busyLabel: string
  fields: Field[]
  /** Of the submit button; `primary` unless the view is about something else. */
  look?: string
  /** Before the fields: for what a code that sends itself would make unreachable. */
  before?: Node[]
  /** Sentences of this form for certain codes; asked at the time of the refusal. */
  own?: () => Record<string, Words>
  /** Throws a `Refusal` to have it worded and tied to the fields. */
  submit: () => Promise<void>
  /** Called with a refusal before it is worded. */
  refused?: (refusal: Refusal) => void
  /** After the submit button. */
  beside?: Node[]
}

export function form(options: FormOptions): HTMLFormElement {
  const { action, label, busyLabel, fields, look = 'primary', before = [], own, submit, beside = [] } = options
  const errors = errorRegion()
  const button = el('button', { type: 'submit', class: look, 'data-action': action }, label)
  for (const { input, hint, problem } of fields) {
    const always = `${hint.id} ${problem.id}`
    input.setAttribute('aria-describedby', always)
    // The live region has said it already: named as well, it would be read out twice.
    input.addEventListener('blur', () => input.setAttribute('aria-describedby', `${always} ${errors.element.id}`))
  }

  function clear(): void {
    silence()
    for (const each of fields) {
      each.problem.textContent = ''
      each.input.removeAttribute('aria-invalid')
      each.input.setAttribute('aria-describedby', `${each.hint.id} ${each.problem.id}`)
    }
  }

  /** A single field has its sentence in the region; several have theirs beside them, and the region says to look. */
  function blame(problems: Map<Field, string>): void {
    for (const [each, sentence] of problems) {
      each.input.setAttribute('aria-invalid', 'true')
      if (fields.length > 1) each.problem.textContent = sentence
    }
    const [first] = problems
    if (first === undefined) return
    errors.say(fields.length > 1 ? 'Check the marked fields, then try again.' : first[1])
    first[0].input.focus()
  }

  function blameLast(refusal: Refusal): void {
    const culprit = fields.at(-1)?.input
    if (BLAMES_LAST_FIELD.has(refusal.code) && !isLocked(refusal)) culprit?.setAttribute('aria-invalid', 'true')
    culprit?.focus()
    culprit?.select()
  }

  function refused(error: unknown): void {
    if (error instanceof Refusal) options.refused?.(error)
    errors.explain(error, own?.(), error instanceof Refusal && !isLocked(error) ? waiting() : {})
    if (!(error instanceof Refusal)) return
    const problems = fieldProblems(fields, error)
    if (problems.size > 0) blame(problems)
    else blameLast(error)
  }

  /** While nothing is accepted, nothing is sent; the button shows how long that is. */
  function waiting(): Follow {
    const culprit = fields.at(-1)?.input
    const stale = culprit?.value
    return {
      tick(secondsLeft) {
        button.setAttribute('aria-disabled', 'true')
        button.textContent = `Wait ${countdown(secondsLeft)}`
      },
      end() {
        button.removeAttribute('aria-disabled')
        button.textContent = label
        if (culprit === undefined || culprit.type === 'password' || culprit.value !== stale) return
        culprit.value = ''
        culprit.removeAttribute('aria-invalid')
      },
    }
  }

  const element = el(
    'form',
    {
      novalidate: true,
      onsubmit: async (event) => {
        event.preventDefault()
        if (button.disabled || button.ariaDisabled === 'true') return
        clear()
        const problems = new Map(fields.flatMap((each) => pair(each, each.check())))
        if (problems.size > 0) return blame(problems)
        await submit().finally(busy(button, busyLabel)).catch(refused)
      },
    },
    ...before,
    ...fields.map((each) => each.row),
    errors.element,
    el('div', { class: 'actions' }, button, ...beside),
  )
  // Switching what is asked for makes the last answer stale.
  element.addEventListener('reset', clear)
  return element
}

const BLAMES_LAST_FIELD = new Set(['invalid_credentials', 'invalid_code', 'code_already_used'])

/** A code travels under three names and is typed into one field. */
const CODE_FIELDS = ['otp_code', 'backup_code', 'input_code']

function fieldProblems(fields: Field[], refusal: Refusal): Map<Field, string> {
  const problems = Object.entries(refusal.fieldErrors).flatMap(([name, [sentence = '']]) => {
    const typedInto = CODE_FIELDS.includes(name) ? 'code' : name
    return fields.filter((each) => each.input.name === typedInto).flatMap((each) => pair(each, sentence))
  })
  return new Map(problems)
}

function pair(each: Field, sentence: string | null): [Field, string][] {
  return sentence === null ? [] : [[each, sentence]]
}

/** Shows on the button that a call is under way and keeps it from being pressed twice; returns how to end that. */
function busy(button: HTMLButtonElement, busyLabel: string): () => void {
  const label = button.textContent
  button.disabled = true
  button.setAttribute('aria-busy', 'true')
  button.textContent = busyLabel
  return () => {
    button.disabled = false
    button.removeAttribute('aria-busy')
    button.textContent = label
  }
}

export interface ActionOptions {
  action: string
  label: string
  /** Null: it opens a question, and the question shows what is under way. */
  busyLabel: string | null
  class?: string
  errors: ErrorRegion
  own?: Record<string, Words>
  work: () => Promise<void>
}

/** A button that does something at once, without a form. */
export function actionButton({ action, label, busyLabel, class: look = '', errors, own, work }: ActionOptions) {
  const button = el('button', { type: 'button', class: look, 'data-action': action }, label)
  button.addEventListener('click', async () => {
    silence()
    const done = busyLabel === null ? () => {} : busy(button, busyLabel)
    try {
      await work()
    } catch (error) {
      errors.explain(error, own)
    } finally {
      done()
      // A disabled button drops the focus; a keyboard user wants it back where it was.
      if (button.isConnected && document.activeElement === document.body) button.focus()
    }
  })
  return button
}
