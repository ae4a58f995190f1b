//! One case against one language: the stage is set, the steps are taken, and the client has to end cleanly.

use serde_json::{Value, json};

use tokio::time::{Duration, Instant, sleep};

use crate::{
    case::{Case, Fields, Step},
    driver::{Driver, PATIENCE, said},
    expect::mismatch,
    language::Language,
    stage::Stage,
};

/// Between two attempts to get the answer that a case waits for.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// How a case went; what failed, with the story behind it.
pub(crate) struct Verdict {
    pub(crate) problem: Option<String>,
    /// What was said, both ways.
    pub(crate) story: String,
}

/// Runs the case; a panic around the client counts as a problem.
pub(crate) async fn run(language: Language, case: Case) -> Verdict {
    let running = tokio::spawn(async move {
        let mut driver = match Driver::start(&language) {
            Ok(driver) => driver,
            Err(problem) => return Verdict { problem: Some(problem), story: String::new() },
        };
        let mut stage = Stage::set(&case).await;
        let problem = play(&case, &mut driver, &mut stage).await.err();
        Verdict { problem, story: driver.story().await }
    });
    running.await.unwrap_or_else(|error| {
        let panic = error.into_panic();
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Verdict { problem: Some(said.unwrap_or_else(|| "panicked".to_owned())), story: String::new() }
    })
}

async fn play(case: &Case, driver: &mut Driver, stage: &mut Stage) -> Result<(), String> {
    for (at, step) in case.steps.iter().enumerate() {
        take(step, driver, stage).await.map_err(|problem| format!("step {}: {problem}", at + 1))?;
    }
    if !case.closes() {
        driver.tell(&fields(json!({ "op": "close" }))).await?;
        driver.see("closed", None, &fields(json!({ "leaked": 0 }))).await?;
    }
    driver.end().await
}

async fn take(step: &Step, driver: &mut Driver, stage: &mut Stage) -> Result<(), String> {
    match step {
        Step::Do(command) => driver.tell(&stage.fill(command)).await,
        Step::See { event, id, fields } => driver.see(event, id.as_deref(), fields).await,
        Step::Again { event, fields } => again(event, fields, driver).await,
        Step::Order { event, ids } => driver.order(event, ids).await,
        Step::Facts { of, fields, soon } => stage.facts(of, fields, *soon).await,
        Step::Server { act, number } => stage.server(*act, *number).await,
        Step::Proxy(act) => stage.proxy(*act),
        Step::Admin { act, budget } => stage.admin(*act, budget).await,
        Step::Rival { act, id, request } => stage.rival(*act, id, request).await,
        Step::Token { name, seconds } => {
            stage.token(name, *seconds);
            Ok(())
        }
    }
}

/// Nothing announces the end of an outage to whoever is outside of the client.
async fn again(event: &str, expected: &Fields, driver: &mut Driver) -> Result<(), String> {
    let began = Instant::now();
    for number in 1.. {
        let id = format!("again-{number}");
        let ask = fields(json!({ "id": id }));
        driver.tell(&Step::command("acquire", ask.clone())).await?;
        let answer = driver.answer(&id).await?;
        if said(&answer, "event") == "granted" {
            driver.tell(&Step::command("drop", ask)).await?;
            driver.see("dropped", Some(&id), &Fields::new()).await?;
        }
        if said(&answer, "event") == event && mismatch(expected, &answer).is_none() {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {event} with {expected:?}"));
        }
        sleep(ASK_INTERVAL).await;
    }
    Ok(())
}

fn fields(object: Value) -> Fields {
    object.as_object().cloned().unwrap_or_default()
}
