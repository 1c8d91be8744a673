import type { RecoveryLink } from '../api.ts'
import type { App, View } from '../app.ts'
import { clockTime, el } from '../dom.ts'
import { actionButton, errorRegion, form, passwordField } from '../form.ts'
import { Refusal } from '../refusal.ts'
import { inWords, WRONG_PASSWORD } from '../wording.ts'

/** What the link of a mail opens. Only this page's memory holds the token: it is no longer in the address bar. */
export function recoveryLinkView(app: App, link: RecoveryLink): View {
  const heading = el('h1', { tabindex: '-1' })
  const card = el('section', { class: 'card narrow' })
  const title = link.onlyCancels ? 'Cancel recovery' : 'Turn off two-factor authentication'
  let fromMs = link.fromMs

  /** The link as it is now: it may become active, or expire, while the page is open. */
  function fill(): void {
    const untilMs = link.untilMs ?? Number.POSITIVE_INFINITY
    if (link.onlyCancels) fillCancel()
    else if (Date.now() >= untilMs) fillOver('This link has expired', `It was valid until ${clockTime(untilMs)}.`)
    else if (fromMs !== null && Date.now() < fromMs) fillEarly(fromMs)
    else fillActive()
  }

  function fillEarly(activeFromMs: number): void {
    const wait = el('span', {})
    const say = () => {
      wait.textContent = inWords(Math.ceil((activeFromMs - Date.now()) / 1000))
    }
    say()
    heading.textContent = 'This link is not active yet'
    card.replaceChildren(
      heading,
      el('p', { 'data-link': 'early' }, `It becomes active at ${clockTime(activeFromMs)} (`, wait, ').'),
      el(
        'p',
        {},
        'The wait gives you time to cancel if you did not request this link. Open the link from the email again later.',
      ),
      ...canceling('primary'),
    )
    const ticking = setInterval(() => {
      if (!wait.isConnected) return clearInterval(ticking)
      say()
      if (Date.now() >= activeFromMs) fill()
    }, 1000)
  }

  function fillActive(): void {
    heading.textContent = title
    const password = passwordField('Account password', 'current-password')
    const untilWords = link.untilMs === null ? '' : ` This link works until ${clockTime(link.untilMs)}.`
    const confirm = form({
      action: 'confirm-recovery',
      label: 'Turn off two-factor authentication',
      busyLabel: 'Turning off…',
      fields: [password],
      own: () => ({
        invalid_credentials: WRONG_PASSWORD,
        too_many_attempts: (wait) => `Too many incorrect passwords. You can try again ${wait}.`,
        second_factor_locked: 'Recovery is locked after too many incorrect passwords. Contact support.',
      }),
      submit: async () => {
        try {
          await app.api.confirmRecovery(link, password.input.value)
        } catch (error) {
          if (!(error instanceof Refusal && error.code === 'recovery_link_invalid')) throw error
          return refused(error)
        }
        const notice = 'Two-factor authentication is off. Log in with your password, and set it up on your new phone.'
        app.toLogin({ notice })
      },
    })
    card.replaceChildren(
      heading,
      el(
        'p',
        { 'data-link': 'active' },
        `You can then log in without a code. You’ll be logged out on your other devices.${untilWords}`,
      ),
      confirm,
      el(
        'div',
        { class: 'elsewhere' },
        el('h2', {}, 'Didn’t request this?'),
        el('p', {}, 'Cancel it. The link stops working, and you are logged out everywhere.'),
        ...canceling('danger'),
      ),
    )
    password.input.focus()
  }

  function refused({ retryAfterSeconds }: Refusal): void {
    if (retryAfterSeconds === null) {
      fillOver('This link no longer works', 'It was used or canceled, or a newer link replaced it.')
      return
    }
    fromMs = Date.now() + retryAfterSeconds * 1000
    fill()
  }

  function fillOver(what: string, why: string): void {
    heading.textContent = what
    card.replaceChildren(
      heading,
      el('p', { 'data-link': 'over' }, why),
      el(
        'div',
        { class: 'actions' },
        el(
          'button',
          { type: 'button', class: 'primary', 'data-action': 'go-recovery', onclick: app.toRecovery },
          'Request a new link',
        ),
      ),
    )
    heading.focus()
  }

  function fillCancel(): void {
    heading.textContent = 'This wasn’t you?'
    card.replaceChildren(
      heading,
      el('p', {}, 'Someone requested a link to turn off two-factor authentication for your account.'),
      el('p', {}, 'If it was you, close this page: the email to your other address has the link.'),
      ...canceling('primary'),
    )
  }

  function canceling(look: string): HTMLElement[] {
    const errors = errorRegion()
    const button = actionButton({
      action: 'cancel-recovery',
      label: 'This wasn’t me: cancel',
      busyLabel: 'Canceling…',
      class: look,
      errors,
      work: async () => {
        try {
          await app.api.cancelRecovery(link)
        } catch (error) {
          if (!(error instanceof Refusal && error.code === 'recovery_link_invalid')) throw error
          return fillOver(
            'This link no longer works',
            'It has expired, was used, or was already canceled. There is nothing left to cancel.',
          )
        }
        const notice =
          'Recovery was canceled. Two-factor authentication stays on. Log in again. If you did not request a link, change your password.'
        app.toLogin({ notice })
      },
    })
    return [errors.element, el('div', { class: 'actions' }, button)]
  }

  fill()
  return { name: 'recovery-link', title, content: [card], focus: card.querySelector('input') ?? heading }
}
