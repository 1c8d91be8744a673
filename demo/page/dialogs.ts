import type { Api, Me, Policy } from './api.ts'
import type { App } from './app.ts'
import { codeField } from './code-field.ts'
import { el, newId } from './dom.ts'
import { type Field, form } from './form.ts'
import { Refusal } from './refusal.ts'

/**
 * Calls, and where the server wants a fresh proof, asks for a code here and calls again. The code makes the session
 * fresh, so the next calls need none. Null when the person canceled.
 */
export async function withStepUp<T>({ api }: App, reason: string, call: () => Promise<T>): Promise<T | null> {
  try {
    return await call()
  } catch (error) {
    if (!wantsStepUp(error)) throw error
  }
  // One question, however many calls wait for its answer.
  asking ??= askForCode(api, reason).finally(() => {
    asking = null
  })
  return (await asking) ? call() : null
}

let asking: Promise<boolean> | null = null

async function askForCode(api: Api, reason: string): Promise<boolean> {
  const { digits } = await api.policy()
  const answer = await ask<true>('Confirm it’s you', reason, (body, answerWith, cancel) => {
    const code = codeField({ digits, acceptsBackupCode: true, sendsItself: true })
    body.replaceChildren(
      form({
        action: 'step-up',
        label: 'Continue',
        busyLabel: 'Checking…',
        fields: [code],
        own: code.words,
        refused: code.refused,
        submit: async () => {
          await api.stepUp(code.kind(), code.code())
          answerWith(true)
        },
        beside: [cancel, code.switcher],
      }),
    )
    code.input.focus()
  })
  return answer === true
}

/** What a person reads before something that cannot be undone. */
export interface Deed {
  question: string
  consequence: string
  /** `data-action`, label and busy label of the button that says yes. */
  action: string
  label: string
  busyLabel: string
}

/**
 * Never on one click: asks whether it is meant, and for a code where the session is not fresh, in one dialog. Null when
 * the person canceled.
 */
export async function deliberately<T>({ api }: App, deed: Deed, call: () => Promise<T>): Promise<{ done: T } | null> {
  const { question, consequence, action, label, busyLabel } = deed
  const [me, policy] = await Promise.all([api.me(), api.policy()])
  let isProved = isFresh(me, policy)
  return ask<{ done: T }>(question, consequence, (body, answer, cancel) => {
    const code = codeField({ digits: policy.digits, acceptsBackupCode: true, sendsItself: false })

    async function submit(): Promise<void> {
      if (!isProved) await api.stepUp(code.kind(), code.code())
      isProved = true
      try {
        answer({ done: await call() })
      } catch (error) {
        if (!wantsStepUp(error)) throw error
        // The clock of this device is off, or the session aged while the question was open.
        isProved = false
        show()
      }
    }

    function show(): void {
      body.replaceChildren(
        form({
          action,
          label,
          busyLabel,
          look: 'danger',
          fields: isProved ? [] : [code],
          own: code.words,
          refused: code.refused,
          submit,
          beside: isProved ? [cancel] : [cancel, code.switcher],
        }),
      )
      if (isProved) cancel.focus()
      else code.input.focus()
    }

    show()
  })
}

/** A question with a few fields. Null when the person canceled. */
export function askFor<T>(
  { title, intro, action, label, busyLabel }: Record<'title' | 'intro' | 'action' | 'label' | 'busyLabel', string>,
  fields: Field[],
  work: () => Promise<T>,
): Promise<T | null> {
  return ask<T>(title, intro, (body, answer, cancel) => {
    const submit = async () => answer(await work())
    body.replaceChildren(form({ action, label, busyLabel, fields, submit, beside: [cancel] }))
    fields[0]?.input.focus()
  })
}

/** The server asks for a code anyway where this is wrong. */
function isFresh({ amr, auth_time }: Me, { step_up_seconds }: Policy): boolean {
  if (step_up_seconds === null) return true
  const provedAtMs = typeof auth_time === 'number' ? auth_time * 1000 : Date.parse(auth_time)
  return amr.includes('mfa') && Date.now() - provedAtMs < step_up_seconds * 1000
}

function wantsStepUp(error: unknown): boolean {
  return error instanceof Refusal && error.code === 'step_up_required'
}

type Fill<T> = (body: HTMLElement, answer: (value: T) => void, cancel: HTMLButtonElement) => void

/** A modal question over the present view; null when it was closed without an answer, or the view changed. */
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
      const isBusy = answered === null && body.querySelector('[aria-busy]') !== null
      if (isBusy && dialog.isConnected) return dialog.showModal()
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
