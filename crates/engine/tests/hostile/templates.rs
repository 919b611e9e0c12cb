//! Hostile chat templates: each stays within its limits of time, memory and stack, and cannot read a
//! file.

use crate::files;
use crate::outcomes::{alone, bounded};
use modelgate_engine::parsers;
use modelgate_protocol::{ContentPart, Failure, FailureKind, Message};
use modelgate_testkit::smallest::{self, Kind};
use std::fs;

/// Renders a chat.
fn rendered(name: &str, template: &str) -> Result<String, Failure> {
    let dir = tempfile::tempdir().unwrap();
    smallest::write(dir.path(), Kind::ByteLevel);
    fs::write(dir.path().join("secret"), "a secret").unwrap();
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let messages = ["user", "assistant", "user"].map(|role| Message {
        role: role.into(),
        content: vec![ContentPart::Text("a b c".into())],
    });
    let files = files(dir.path());
    bounded(name, || parsers::chat(&files, &messages))
}

/// Returns a template that repeatedly sets `ns.x` to `step`.
fn looped(start: &str, step: &str, end: &str) -> String {
    format!(
        "{{% set ns = namespace(x={start}, n=0) %}}{{% for i in range(100000) %}}{{% set ns.x = {step} %}}\
         {{% endfor %}}{end}"
    )
}

/// Returns a template that sets `ns.x` to `step` `times` times.
fn doubled(start: &str, step: &str, times: usize, end: &str) -> String {
    looped(start, step, end).replace("range(100000)", &format!("range({times})"))
}

#[test]
fn unbounded_templates_are_stopped() {
    let _alone = alone();
    let huge = "('a' * 4000000)";
    let mut cases: Vec<(String, String)> = Vec::new();
    for expression in [
        "'a' * 1000000000",
        "[1] * 1000000000",
        "range(1000000000) | list | length",
        "range(100000) | join('a' * 1000000)",
        "'a' * -1000000000",
        "10 ** 1000000000",
        "2 ** 127 * 2 ** 127",
        "'%1000000000d' | format(1)",
        "'%1000000000s' % 1",
        "'{:>1000000000}'.format('a')",
        "'a'.center(1000000000)",
        "'a'.ljust(1000000000)",
        "'a'.rjust(1000000000)",
        "'1'.zfill(1000000000)",
        "'\t'.expandtabs(1000000000)",
        "'a' | indent(1000000000)",
        "'a\na' | indent(1000000000)",
        "[1] | batch(1000000000, 'a') | list",
        "[1] | slice(1000000000) | list",
        "1.5 | round(1000000000)",
        "[1] | tojson(indent=1000000000)",
        "[1] | tojson(separators=('a' * 1000000, 'b'))",
        "range(100000) | list | tojson(separators=('a' * 1000000, 'b'))",
        "range(100000) | list | tojson(indent='a' * 1000000)",
        "range(100000) | list | tojson(indent='a' * 1000000, sort_keys=true)",
        "raise_exception('a' * 1000000)",
        "strftime_now('%B' * 1000000)",
        "lipsum(1000000000)",
        "cycler(*range(100000))",
        "dict(a=range(100000) | list) | tojson | length",
        "range(0, 100000) | map('string') | map('upper') | sort | reverse | unique | list | length",
        "'a'.join(range(100000) | map('string')) | length",
    ] {
        cases.push((expression.to_owned(), format!("{{{{ {expression} }}}}")));
    }
    for filter in [
        "replace('a', 'b' * 100000)",
        "replace('', 'b' * 100000)",
        "upper",
        "title",
        "split('a') | length",
        "list | length",
        "tojson",
        "tojson(ensure_ascii=true)",
        "urlencode",
        "trim",
        "lines",
        "reverse",
        "indent(1000)",
        "batch(2) | list | length",
        "unique | list",
        "sort | join",
        "wordcount",
        "e",
        "pprint",
        "format(1)",
        "map('upper') | list",
        "safe | replace('a', 'aa') | replace('a', 'aaaa')",
    ] {
        cases.push((filter.to_owned(), format!("{{{{ ({huge} | {filter}) | length }}}}")));
        cases.push((format!("many times {filter}"), format!(
            "{{% set x = {huge} %}}{{% for i in range(10000) %}}{{% set y = x | {filter} %}}{{% endfor %}}"
        )));
    }
    for method in [
        "replace('a', 'b' * 100000)",
        "split('a')",
        "split('')",
        "strip('a')",
        "count('a')",
        "find('b')",
        "splitlines()",
        "title()",
        "capitalize()",
        "isascii()",
        "join(['b', 'c'])",
        "rsplit('a')",
        "startswith('b')",
        "encode()",
        "lstrip('a')",
        "swapcase()",
        "format(1)",
    ] {
        cases.push((format!("method {method}"), format!("{{{{ {huge}.{method} | length }}}}")));
        cases.push((format!("many times method {method}"), format!(
            "{{% set x = {huge} %}}{{% for i in range(10000) %}}{{% set y = x.{method} %}}{{% endfor %}}"
        )));
    }
    for (name, template) in [
        ("loops", "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned()),
        ("a long range", "{% for i in range(1000000000) %}{% endfor %}".into()),
        ("a macro in itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into()),
        ("two macros in each other",
         "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}".into()),
        ("a macro that doubles",
         "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}a{% endmacro %}{{ m(60) }}".into()),
        ("a caller in itself",
         "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}".into()),
        ("a loop in itself", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
        ("a block in itself", "{% block a %}{{ self.a() }}{% endblock %}".into()),
        ("a text that doubles", doubled("'aaaa'", "ns.x ~ ns.x", 64, "{{ ns.x | length }}")),
        ("a sum that doubles", doubled("'aaaa'", "ns.x + ns.x", 64, "{{ ns.x | length }}")),
        ("a list that doubles", doubled("[1]", "ns.x + ns.x", 31, "{{ ns.x | list | length }}")),
        ("a product that doubles", doubled("'aaaa'", "ns.x * 2", 64, "{{ ns.x | length }}")),
        ("a set block that doubles",
         "{% set ns = namespace(x='aaaa') %}{% for i in range(64) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}\
          {% set ns.x = y %}{% endfor %}{{ ns.x | length }}".into()),
        ("a filter block", "{% for i in range(100000) %}{% filter upper %}{{ 'a' * 100000 }}{% endfilter %}{% endfor %}".into()),
        ("a list of itself", "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}{{ ns | tojson }}".into()),
    ] {
        cases.push((name.to_owned(), template));
    }
    let whole = "ns.x";
    for end in [
        "",
        "{{ X }}",
        "{{ X | tojson }}",
        "{{ X | tojson(indent=4) }}",
        "{{ X | tojson(sort_keys=true) }}",
        "{{ X | string | length }}",
        "{{ X ~ '' }}",
        "{{ X == X }}",
        "{{ X == [X] }}",
        "{{ X < [X] }}",
        "{{ X in [[X]] }}",
        "{{ [X, X] | unique | list | length }}",
        "{{ [X, [X]] | sort | length }}",
        "{{ {X: 1} | length }}",
        "{{ X | e }}",
        "{{ [X] | join }}",
        "{{ '%s' | format(X) }}",
        "{{ 'a'.format(X) }}",
        "{{ '{}'.format(X) }}",
        "{{ raise_exception(X) }}",
        "{{ X | length }}",
        "{{ X | urlencode }}",
        "{{ [X] | sum }}",
        "{{ [X, X] | groupby(0) | list }}",
        "{{ X | map('string') | list }}",
    ] {
        let end = end.replace('X', whole);
        for (kind, template) in [
            ("a deep value", looped("[]", "[ns.x]", &end)),
            ("a deep object", looped("{}", "{'a': ns.x}", &end)),
        ] {
            cases.push((format!("{kind} {end}"), template));
        }
    }
    let mut refused = 0;
    for (name, template) in &cases {
        let begin = std::time::Instant::now();
        let outcome = rendered(name, template);
        if begin.elapsed().as_secs_f64() > 0.5 {
            println!("{name}: {:?}", begin.elapsed());
        }
        match outcome {
            Ok(text) => assert!(text.len() <= 4 << 20, "{name}"),
            Err(failure) => {
                refused += 1;
                assert_eq!(failure.kind, FailureKind::Tokenizer, "{name}: {failure}");
                assert!(failure.message.contains("chat_template.jinja"), "{name}: {failure}");
            }
        }
    }
    println!("{refused} of {} templates are refused", cases.len());
    assert!(refused > cases.len() / 4);
}

/// Nested values, each of which contains the next one twice: rendering or comparing them takes exponential
/// memory and time, and the library counts fuel only afterwards. Each case runs in its own process,
/// because an abandoned thread runs until the process ends.
#[test]
fn operations_that_use_no_fuel_are_abandoned_at_the_deadline() {
    let _alone = alone();
    let wide = |end: &str| doubled("[]", "[ns.x, ns.x]", 40, end);
    let two =
        "{% set ns.y = [] %}{% for i in range(40) %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
    for (name, template) in [
        ("a wide value as a text", wide("{{ ns.x | string | length }}")),
        ("wide values that are compared", wide(&format!("{two}{{{{ ns.x == ns.y }}}}"))),
        ("a deep value, pretty-printed", looped("[]", "[ns.x]", "{{ ns.x | pprint }}")),
        ("a wide key", wide("{{ {ns.x: 1} | length }}")),
        ("a wide value, written", wide("{{ ns.x }}")),
        ("a wide value as JSON", wide("{{ ns.x | tojson }}")),
        ("a list that is collected", doubled("[1]", "ns.x + ns.x", 40, "")),
        ("a long list, written", doubled("[1]", "ns.x + ns.x", 31, "{{ ns.x | tojson }}")),
    ] {
        let begin = std::time::Instant::now();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "templates::one_in_a_process_of_its_own", "--nocapture"])
            .env(TEMPLATE, &template)
            .output()
            .unwrap();
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&child.stdout);
        println!(
            "{name}: {took:?}: {}",
            said.lines().find(|line| line.contains("RENDERED")).unwrap_or("")
        );
        assert!(child.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&child.stderr));
        assert!(said.contains("RENDERED"), "{name}: {said}");
    }
}

/// The variable that selects the template of [`one_in_a_process_of_its_own`].
const TEMPLATE: &str = "MODELGATE_TEST_TEMPLATE";

/// Runs one case of the test above. Does nothing without the variable.
#[test]
fn one_in_a_process_of_its_own() {
    let Ok(template) = std::env::var(TEMPLATE) else { return };
    match rendered("a template", &template) {
        Ok(text) => println!("RENDERED {} bytes", text.len()),
        Err(failure) => println!("RENDERED not: {}", failure.message),
    }
}

#[test]
fn deep_nesting_in_templates_does_not_overflow_the_stack() {
    let _alone = alone();
    const DEPTH: usize = 100_000;
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{'a':", "1", "}"),
        ("not ", "1", ""),
        ("-", "1", ""),
        ("1+", "1", ""),
        ("1~", "1", ""),
        ("1**", "1", ""),
        ("1 and ", "1", ""),
        ("1<", "1", ""),
        ("1 in ", "[1]", ""),
        ("1 if 1 else ", "1", ""),
        ("a(", "1", ")"),
        ("", "a", ".b"),
        ("", "a", "[1]"),
        ("", "a", "()"),
        ("", "a", "|e"),
        ("", "a", " is defined"),
        ("", "a", "[:1]"),
    ] {
        for depth in [DEPTH, (32_000) / (open.len() + close.len())] {
            let template =
                format!("{{{{ {}{middle}{} }}}}", open.repeat(depth), close.repeat(depth));
            let name = format!("{depth} of {open}{middle}{close}");
            match rendered(&name, &template) {
                Ok(text) => println!("{name}: {} bytes", text.len()),
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::Tokenizer, "{name}: {failure}")
                }
            }
        }
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for a in b %}", "{% endfor %}"),
        ("{% with %}", "{% endwith %}"),
        ("{%if 1%}{%elif 1%}", "{%endif%}"),
        ("{%filter e%}", "{%endfilter%}"),
        ("{% macro a() %}", "{% endmacro %}"),
        ("{% set a %}", "{% endset %}"),
        ("{% generation %}", "{% endgeneration %}"),
    ] {
        for depth in [100_000, (32_000) / (open.len() + close.len())] {
            let template = format!("{}{}", open.repeat(depth), close.repeat(depth));
            let name = format!("{depth} of {open}");
            assert!(rendered(&name, &template).is_err(), "{name}");
        }
    }
    let elif = format!("{{%if 0%}}{}{{%endif%}}", "{%elif 0%}".repeat(3_200));
    let _ = rendered("a long elif", &elif);
    for literal in [
        "1".repeat(32_000),
        format!("1.{}", "1".repeat(32_000)),
        format!("'{}'", "a".repeat(32_000)),
    ] {
        let _ = rendered("a long literal", &format!("{{{{ {literal} }}}}"));
    }
}

#[test]
fn no_template_reads_a_file() {
    let _alone = alone();
    for statement in [
        "{% include 'secret' %}",
        "{% include './secret' %}",
        "{% include ['secret', '/etc/passwd'] %}",
        "{% include '/etc/passwd' %}",
        "{% import 'secret' as s %}{{ s }}",
        "{% from 'secret' import s %}{{ s }}",
        "{% extends 'secret' %}",
        "{{ open('secret').read() }}",
        "{{ load('secret') }}",
        "{{ self.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('cat secret').read() }}",
    ] {
        match rendered(statement, statement) {
            Ok(text) => assert!(text.trim().is_empty(), "{statement}: {text}"),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Tokenizer, "{statement}: {failure}");
                assert!(!failure.message.contains("a secret"), "{statement}: {failure}");
                assert!(!failure.message.contains("root:"), "{statement}: {failure}");
            }
        }
    }
    // An optional include of a missing file renders nothing.
    assert_eq!(rendered("optional", "a{% include 'secret' ignore missing %}b").unwrap(), "ab");
    // A template can include itself.
    let failure = rendered("itself", "{% include 'chat' %}").expect_err("no end");
    assert_eq!(failure.kind, FailureKind::Tokenizer, "{failure}");
}

#[test]
fn oversized_templates_are_refused() {
    let _alone = alone();
    let failure = rendered("long", &"a".repeat((32 << 10) + 1)).expect_err("too long");
    assert!(failure.message.contains("32768 bytes"), "{failure}");
}
