import type { App } from './app.ts'
import { codeField } from './code-field.ts'
import { el, newId } from './dom.ts'
import { field, form } from './form.ts'
import { Refusal } from './refusal.ts'
import { CHALLENGE_OVER } from './wording.ts'

/**
 * Calls without a code; where the server wants a fresh proof, asks for one here and calls again with it.
 * Null when the person thought better of it.
 *
 * @param asksFirst - for what must not happen on one click: the question comes before the first call
 */
export async function withStepUp<T>(
  reason: string,
  call: (code?: string) => Promise<T>,
  { asksFirst = false } = {},
): Promise<T | null> {
  if (!asksFirst) {
    try {
      return await call()
    } catch (error) {
      if (!wantsStepUp(error)) throw error
    }
  }
  return ask<T>('Is it you?', reason, (body, answer, cancel) => {
    const code = codeField()
    body.replaceChildren(
      form({
        action: 'step-up',
        label: 'Continue',
        busyLabel: 'Checking…',
        fields: [code],
        own: code.words,
        submit: async () => answer(await call(code.code())),
        beside: [cancel, code.switcher],
      }),
    )
    code.input.focus()
  })
}

/** Reading calls carry no code, and a refresh never makes a proof fresher: only a new log-in does. */
export async function withSignIn<T>(
  { api }: App,
  username: string,
  reason: string,
  call: () => Promise<T>,
): Promise<T | null> {
  try {
    return await call()
  } catch (error) {
    if (!wantsStepUp(error)) throw error
  }
  const signedIn = await ask<true>('Sign in again', reason, (body, answer, cancel) => {
    passwordStep()

    function passwordStep(problem: string | null = null): void {
      const password = field({
        name: 'password',
        label: `Password of ${username}`,
        type: 'password',
        attributes: { autocomplete: 'current-password' },
      })
      const signIn = form({
        action: 'reauth',
        label: 'Continue',
        busyLabel: 'Checking…',
        fields: [password],
        own: () => ({ invalid_credentials: 'That password is wrong. Check it (is caps lock on?), then try again.' }),
        submit: async () => {
          const loggedIn = await api.logIn(username, password.input.value, { provesAgain: true })
          if (loggedIn.next === 'challenge') codeStep(loggedIn.token)
          else answer(true)
        },
        beside: [cancel],
      })
      // For password managers, which look for a user name beside the password.
      signIn.prepend(
        el('input', { type: 'text', autocomplete: 'username', value: username, readonly: true, hidden: true }),
      )
      body.replaceChildren(...(problem === null ? [] : [el('p', { class: 'notice', role: 'alert' }, problem)]), signIn)
      password.input.focus()
    }

    function codeStep(challenge: string): void {
      const code = codeField()
      body.replaceChildren(
        form({
          action: 'reauth',
          label: 'Sign in',
          busyLabel: 'Checking…',
          fields: [code],
          own: code.words,
          submit: async () => {
            try {
              await api.verify(challenge, code.kind(), code.code())
              answer(true)
            } catch (error) {
              if (!(error instanceof Refusal && error.code === 'challenge_invalid')) throw error
              passwordStep(CHALLENGE_OVER)
            }
          },
          beside: [cancel, code.switcher],
        }),
      )
      code.input.focus()
    }
  })
  return signedIn === null ? null : call()
}

/** A yes or no for what cannot be taken back. */
export async function confirmed(
  question: string,
  consequence: string,
  action: string,
  label: string,
): Promise<boolean> {
  const answer = await ask<true>(question, consequence, (body, answerWith, cancel) => {
    const yes = el(
      'button',
      { type: 'button', class: 'danger', 'data-action': action, onclick: () => answerWith(true) },
      label,
    )
    body.replaceChildren(el('div', { class: 'actions' }, yes, cancel))
    cancel.focus()
  })
  return answer === true
}

function wantsStepUp(error: unknown): boolean {
  return error instanceof Refusal && error.code === 'step_up_required'
}

type Fill<T> = (body: HTMLElement, answer: (value: T) => void, cancel: HTMLButtonElement) => void

/** A modal question over the present view; null when it was closed without an answer. It goes away with the view. */
function ask<T>(title: string, intro: string, fill: Fill<T>): Promise<T | null> {
  return new Promise((resolve) => {
    const heading = el('h2', { id: newId() }, title)
    const reason = el('p', { id: newId() }, intro)
    const body = el('div')
    const cancel = el('button', { type: 'button', 'data-action': 'cancel', onclick: () => dialog.close() }, 'Cancel')
    const dialog = el('dialog', { 'aria-labelledby': heading.id, 'aria-describedby': reason.id }, heading, reason, body)

    let answered: T | null = null
    dialog.addEventListener('close', () => {
      // A call under way may be doing what was asked for (new backup codes, say): its answer must have a place to go.
      if (answered === null && body.querySelector('[aria-busy]') !== null) return dialog.showModal()
      dialog.remove()
      resolve(answered)
    })

    document.getElementById('view')?.append(dialog)
    dialog.showModal()
    fill(
      body,
      (value) => {
        answered = value
        dialog.close()
      },
      cancel,
    )
  })
}
