//! What a case may be: a pure function.

use crate::wire::eval::CaseContent;

/// Longest question, reference answer and message in characters.
const TEXT_MAX: usize = 100_000;
/// Topics of a case, of each kind, and the longest in characters.
const TOPICS_MAX: usize = 100;
const TOPIC_MAX: usize = 1000;
/// Tags of a case.
const TAGS_MAX: usize = 50;
/// Longest tag and category in characters.
pub const NAME_MAX: usize = 255;
/// Messages before the question, and their characters together.
const HISTORY_MAX: usize = 200;
const HISTORY_TEXT_MAX: usize = 500_000;

/// A field, and what is wrong with it.
pub type Wrong = (String, String);

/// The case, with texts that are nothing left out, or what is wrong with it.
///
/// # Errors
///
/// The first field that is wrong.
pub fn check(mut content: CaseContent) -> Result<CaseContent, Wrong> {
    content.category = content.category.filter(|category| !category.is_empty());
    content.reference_answer = content.reference_answer.filter(|answer| !answer.is_empty());
    let length = |text: &str| text.chars().count();
    let holds = |field: &str, holds: bool, reason: String| if holds { Ok(()) } else { Err((field.to_owned(), reason)) };
    let text = format!("has to be a text of 1 to {TEXT_MAX} characters");
    holds("question", (1..=TEXT_MAX).contains(&length(&content.question)), text.clone())?;
    let reference = content.reference_answer.as_deref().unwrap_or_default();
    holds("referenceAnswer", length(reference) <= TEXT_MAX, format!("has to be at most {TEXT_MAX} characters"))?;
    let category = content.category.as_deref().unwrap_or_default();
    holds("category", length(category) <= NAME_MAX, format!("has to be at most {NAME_MAX} characters"))?;
    for (field, list, most, longest) in [
        ("expectedTopics", &content.expected_topics, TOPICS_MAX, TOPIC_MAX),
        ("expectedNotTopics", &content.expected_not_topics, TOPICS_MAX, TOPIC_MAX),
        ("tags", &content.tags, TAGS_MAX, NAME_MAX),
    ] {
        let list = list.as_deref().unwrap_or_default();
        holds(field, list.len() <= most, format!("has to be at most {most} texts"))?;
        for (index, entry) in list.iter().enumerate() {
            let reason = format!("has to be a text of 1 to {longest} characters");
            holds(&format!("{field}[{index}]"), (1..=longest).contains(&length(entry)), reason)?;
        }
    }
    let history = content.chat_history.as_deref().unwrap_or_default();
    holds("chatHistory", history.len() <= HISTORY_MAX, format!("has to be at most {HISTORY_MAX} messages"))?;
    for (index, said) in history.iter().enumerate() {
        holds(&format!("chatHistory[{index}].content"), (1..=TEXT_MAX).contains(&length(&said.content)), text.clone())?;
    }
    let all = history.iter().map(|said| length(&said.content)).sum::<usize>();
    holds("chatHistory", all <= HISTORY_TEXT_MAX, format!("has to be at most {HISTORY_TEXT_MAX} characters together"))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::eval::{ChatMessage, ChatRole};

    #[test]
    fn a_case_that_is_too_much_is_refused_by_its_field() {
        let good = CaseContent { question: "q".to_owned(), ..CaseContent::default() };
        let list = |count: usize, length: usize| Some(vec!["x".repeat(length); count]);
        let said =
            |count: usize, length: usize| Some(vec![ChatMessage { role: ChatRole::User, content: "ä".repeat(length) }; count]);
        let with = |change: &dyn Fn(&mut CaseContent)| {
            let mut content = good.clone();
            change(&mut content);
            check(content).map_err(|(field, _)| field)
        };
        for (change, field) in [
            (&(|c: &mut CaseContent| c.question.clear()) as &dyn Fn(&mut CaseContent), "question"),
            (&|c| c.question = "x".repeat(TEXT_MAX + 1), "question"),
            (&|c| c.reference_answer = Some("x".repeat(TEXT_MAX + 1)), "referenceAnswer"),
            (&|c| c.category = Some("x".repeat(NAME_MAX + 1)), "category"),
            (&|c| c.expected_topics = list(TOPICS_MAX + 1, 1), "expectedTopics"),
            (&|c| c.expected_topics = list(1, 0), "expectedTopics[0]"),
            (&|c| c.expected_not_topics = list(2, TOPIC_MAX + 1), "expectedNotTopics[0]"),
            (&|c| c.tags = list(TAGS_MAX + 1, 1), "tags"),
            (&|c| c.chat_history = said(HISTORY_MAX + 1, 1), "chatHistory"),
            (&|c| c.chat_history = said(2, 0), "chatHistory[0].content"),
            (&|c| c.chat_history = said(6, TEXT_MAX), "chatHistory"),
        ] {
            assert_eq!(with(change), Err(field.to_owned()));
        }
        for change in [
            &(|c: &mut CaseContent| c.question = "ä".repeat(TEXT_MAX)) as &dyn Fn(&mut CaseContent),
            &|c| c.expected_topics = list(TOPICS_MAX, TOPIC_MAX),
            &|c| c.expected_topics = Some(Vec::new()),
            &|c| c.chat_history = said(5, TEXT_MAX),
        ] {
            assert!(with(change).is_ok());
        }
        let empty = with(&|c| (c.category, c.reference_answer) = (Some(String::new()), Some(String::new())));
        assert_eq!(empty, Ok(good.clone()), "a text of nothing is none");
    }
}
