// The public HTTP API, and its errors in words.

const PATIENCE_MS = 30_000;
const ATTEMPTS = 3;

/** A refusal, or that the gateway could not be reached (`status` 0). */
export class ApiError extends Error {
  constructor(status, message, { kind = "", requestId = "", retryMs = null } = {}) {
    super(message);
    this.status = status;
    this.kind = kind;
    this.requestId = requestId;
    this.retryMs = retryMs;
  }

  /** Asking again cannot help. */
  get isFinal() {
    return this.status >= 400 && this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

export class Api {
  constructor(key) {
    this.key = key;
    /** Told when the key is not accepted. */
    this.onRefused = () => {};
  }

  get(path, query = {}, options = {}) {
    return this._json("GET", path, { query, ...options });
  }

  /** A repeated attempt carries the same key, so that the gateway does the thing once. */
  post(path, body = {}) {
    return this._json("POST", path, { body, headers: { "idempotency-key": crypto.randomUUID?.() ?? String(Math.random()) } });
  }

  delete(path) {
    return this._json("DELETE", path);
  }

  /** Open a stream; the response's headers have arrived when this returns. */
  async stream(path, { query = {}, lastId = null, signal }) {
    const headers = lastId === null ? {} : { "last-event-id": lastId };
    return this._fetch("GET", path, { query, headers, signal });
  }

  async _json(method, path, options = {}) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const signal = options.signal ?? AbortSignal.timeout(PATIENCE_MS);
        const response = await this._fetch(method, path, { ...options, signal });
        return await response.json();
      } catch (error) {
        const told = error instanceof ApiError ? error : unreachable(error);
        if (told.isFinal || attempt === ATTEMPTS || options.signal?.aborted) throw told;
        await pause(Math.min(told.retryMs ?? 300 * 2 ** attempt, 5000), options.signal);
      }
    }
  }

  async _fetch(method, path, { query = {}, body, headers = {}, signal }) {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) {
      for (const each of [value].flat()) if (each !== null && each !== undefined) url.searchParams.append(name, each);
    }
    const init = { method, signal, cache: "no-store", credentials: "omit", redirect: "error" };
    init.headers = { ...headers, "x-api-key": this.key };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers["content-type"] = "application/json";
    }
    let response;
    try {
      response = await fetch(url, init);
    } catch (error) {
      throw signal?.aborted && signal.reason?.name === "AbortError" ? error : unreachable(error);
    }
    if (response.ok) return response;
    const refused = await refusal(response);
    if (refused.status === 401) this.onRefused(refused);
    throw refused;
  }
}

function unreachable(error) {
  const why = error?.name === "TimeoutError" ? "The gateway did not answer in time" : "The gateway cannot be reached";
  return new ApiError(0, `${why}. Is it running, and is this machine online?`);
}

async function refusal(response) {
  const told = await response.json().catch(() => null);
  const message = told?.error?.message ?? `The gateway answered ${response.status} ${response.statusText}`;
  const after = Number(response.headers.get("retry-after"));
  return new ApiError(response.status, message, {
    kind: told?.error?.type ?? "",
    requestId: told?.request_id ?? response.headers.get("request-id") ?? "",
    retryMs: after > 0 ? after * 1000 : null,
  });
}

/** Wait; returns early when the signal is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
