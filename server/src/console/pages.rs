//! The pages, as they are compiled in. They hold no data, so they are open to everybody; browsers are told to let them talk to nobody but
//! this server, and to make markup of nothing but what stands in them.

use axum::{
    Router,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    response::{IntoResponse, Response},
    routing::get,
};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const DRAWING: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal: $kind:ident = $file:literal),+ $(,)?) => {
        [$(($path, $kind, include_str!(concat!("site/", $file)))),+]
    };
}

/// Every file: where it is served, as what, and what stands in it.
const FILES: [(&str, &str, &str); 18] = files! {
    "/": HTML = "index.html",
    "/console/style.css": STYLE = "style.css",
    "/console/icon.svg": DRAWING = "icon.svg",
    "/console/main.js": SCRIPT = "main.js",
    "/console/api.js": SCRIPT = "api.js",
    "/console/dom.js": SCRIPT = "dom.js",
    "/console/words.js": SCRIPT = "words.js",
    "/console/chart.js": SCRIPT = "chart.js",
    "/console/table.js": SCRIPT = "table.js",
    "/console/tables.js": SCRIPT = "tables.js",
    "/console/overview.js": SCRIPT = "overview.js",
    "/console/budget.js": SCRIPT = "budget.js",
    "/console/changes.js": SCRIPT = "changes.js",
    "/console/change.js": SCRIPT = "change.js",
    "/console/pools.js": SCRIPT = "pools.js",
    "/console/schedule.js": SCRIPT = "schedule.js",
    "/console/shadow.js": SCRIPT = "shadow.js",
    "/console/steer.js": SCRIPT = "steer.js",
};

pub(super) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { file(kind, text) }))
    })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of the server has other pages.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::FILES;

    /// Goal: nothing that a page names is elsewhere, and no page makes markup of text.
    #[test]
    fn pages_ask_nobody_else() {
        for (path, _, text) in FILES {
            // A drawing's namespace is a name and no place.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for banned in
                ["http://", "https://", "src=\"//", "innerHTML", "outerHTML", "insertAdjacent", "eval("]
            {
                assert!(!text.contains(banned), "{path} has {banned}");
            }
        }
    }

    /// Goal: every module that a module or the page asks for is served.
    #[test]
    fn modules_are_served() {
        let served = |path: &str| FILES.iter().any(|(file, ..)| *file == path);
        let mut asked = 0;
        for (path, _, text) in FILES {
            let modules =
                text.split("from \"./").skip(1).map(|rest| format!("/console/{}", upto_quote(rest)));
            let files =
                text.split("\"/console/").skip(1).map(|rest| format!("/console/{}", upto_quote(rest)));
            for wanted in modules.chain(files) {
                asked += 1;
                assert!(served(&wanted), "{path} asks for {wanted}");
            }
        }
        assert!(asked > FILES.len(), "only {asked} were found");
    }

    fn upto_quote(text: &str) -> &str {
        text.split('"').next().unwrap_or_default()
    }
}
