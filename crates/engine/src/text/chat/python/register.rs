//! Registers the semantics of Python in an environment.

use super::built_in_tests::{self as tests, comparison};
use super::macros::variadic;
use super::values::write_text;
use super::{filters, globals, lookup, methods, operators, types};
use minijinja::Environment;
use minijinja::value::Value;

/// The filters of minijinja that jinja2 does not have.
const FOREIGN_FILTERS: [&str; 5] = ["split", "lines", "bool", "chain", "zip"];

/// The names of tests that compare values, with their operators.
const COMPARISONS: [(&str, &str); 16] = [
    ("in", "in"),
    ("==", "=="),
    ("eq", "=="),
    ("equalto", "=="),
    ("!=", "!="),
    ("ne", "!="),
    (">", ">"),
    ("gt", ">"),
    ("greaterthan", ">"),
    (">=", ">="),
    ("ge", ">="),
    ("<", "<"),
    ("lt", "<"),
    ("lessthan", "<"),
    ("<=", "<="),
    ("le", "<="),
];

/// Registers the operators, filters, tests and globals.
pub(in crate::text::chat) fn register(environment: &mut Environment<'static>) {
    register_operators(environment);
    register_filters(environment);
    register_tests(environment);
    environment.remove_global("debug");
    environment.add_function("dict", globals::dict);
    environment.add_function("namespace", globals::namespace);
    environment.add_function("joiner", globals::joiner);
    environment.add_function("cycler", globals::cycler);
    environment.add_function("lipsum", globals::lipsum);
    environment.add_function("raise_exception", globals::raise_exception);
    environment.set_unknown_method_callback(methods::call_method);
    environment.set_formatter(|out, _, value| {
        let mut text = String::new();
        write_text(&mut text, value)?;
        out.write_str(&text).map_err(minijinja::Error::from)
    });
}

/// Registers the filters to which `super::super::syntax` translates operators.
fn register_operators(environment: &mut Environment<'static>) {
    environment
        .add_filter("__attribute", |value: &Value, name: &str| lookup::attribute(value, name));
    environment.add_filter("__item", |value: &Value, key: &Value| lookup::item(value, key));
    environment.add_filter("__slice", operators::slice);
    environment.add_filter("__compare", operators::compare);
    environment.add_filter("__concat", operators::concatenate);
    environment.add_filter("__remainder", operators::remainder);
    environment.add_filter("__positive", operators::positive);
    environment.add_filter("__iterable", types::iterable);
    environment.add_filter("__unpacked", operators::unpacked);
    environment.add_filter("__rows", operators::rows);
    environment.add_filter("__add", operators::add);
    environment.add_filter("__macro", variadic);
}

fn register_filters(environment: &mut Environment<'static>) {
    for name in FOREIGN_FILTERS {
        environment.remove_filter(name);
    }
    environment.add_filter("attr", filters::attr);
    environment.add_filter("batch", filters::batch);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("center", filters::center);
    environment.add_filter("count", filters::length);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("e", filters::escape);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("filesizeformat", filters::filesizeformat);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("forceescape", filters::forceescape);
    environment.add_filter("format", filters::format);
    environment.add_filter("indent", filters::indent);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", filters::items_of);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("list", filters::list);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("map", filters::map);
    environment.add_filter("max", filters::max);
    environment.add_filter("min", filters::min);
    environment.add_filter("pprint", filters::pprint);
    environment.add_filter("random", filters::unsupported);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("round", filters::round);
    environment.add_filter("select", filters::select);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("slice", filters::slice);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("string", filters::string);
    environment.add_filter("striptags", filters::striptags);
    environment.add_filter("sum", filters::sum);
    environment.add_filter("title", filters::title);
    environment.add_filter("tojson", filters::tojson);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("truncate", filters::truncate);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("urlencode", filters::urlencode);
    environment.add_filter("urlize", filters::unsupported);
    environment.add_filter("wordcount", filters::wordcount);
    environment.add_filter("wordwrap", filters::wordwrap);
    environment.add_filter("xmlattr", filters::xmlattr);
}

fn register_tests(environment: &mut Environment<'static>) {
    for (name, operator) in COMPARISONS {
        environment.add_test(name, comparison(operator));
    }
    environment.add_test("odd", tests::odd);
    environment.add_test("even", tests::even);
    environment.add_test("divisibleby", tests::divisibleby);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("float", tests::is_float);
    environment.add_test("number", tests::is_number);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("callable", tests::is_callable);
    environment.add_test("lower", tests::is_lower);
    environment.add_test("upper", tests::is_upper);
}
