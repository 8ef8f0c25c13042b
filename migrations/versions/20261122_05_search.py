"""Search: the words of every message, and how far each conversation's log has been read for them.

The words are made here, by functions of the database, and not by its text search parser: what that takes for a letter
depends on the locale of the database, and it knows no word in a script written without spaces. One function cuts texts
and queries alike, so that whatever it does to one it does to the other.
"""

from alembic import op

revision = "20261122_05_search"
down_revision = "20261122_04_runs"
branch_labels = None
depends_on = None

# Scripts written without spaces: Chinese, Japanese, Korean, Yi, Thai, Lao, Myanmar, Khmer; and symbols, from arrows to
# emoji. Their characters become pairs of neighbours (and single ones, to be found alone).
UNSPACED = (
    r"\u0E01-\u0E2E\u0E30-\u0E4E\u0E81-\u0EFF\u1000-\u1049\u1050-\u109F\u1100-\u11FF\u1780-\u17D3"
    r"\u2190-\u2BFF\u2E80-\u2FDF\u3005-\u3007\u3021-\u302F\u3031-\u303C\u3041-\u309F\u30A1-\u30FA\u30FC-\u31FF"
    r"\u3400-\u4DBF\u4E00-\uA4CF\uA960-\uA97F\uAC00-\uD7FF\uF900-\uFAFF"
    r"\U0001B000-\U0001B16F\U0001F000-\U0001FBFF\U00020000-\U0003FFFF"
)
# What stands between words, beyond ASCII: blanks, punctuation, currency. Everything else is part of a word: a letter
# that were missing here would be found, and a dash that were missing would only glue two words together.
BETWEEN = (
    r"\u0080-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u02C2-\u02C5\u037E\u0387\u055A-\u055F\u0589\u058A"
    r"\u05BE\u05C0\u05C3\u05C6\u05F3\u05F4\u0600-\u060F\u061B-\u061F\u066A-\u066D\u06D4\u0700-\u070D\u0964\u0965\u0970"
    r"\u0E2F\u0E4F\u0E5A\u0E5B\u0F04-\u0F12\u104A-\u104F\u10FB\u1360-\u1368\u166D\u166E\u1680\u16EB-\u16ED\u17D4-\u17DC"
    r"\u1800-\u180A\u2000-\u218F\u2E00-\u2E7F\u3000-\u3004\u3008-\u3020\u3030\u303D-\u303F\u30A0\u30FB\uA4FE\uA4FF"
    r"\uE000-\uF8FF\uFD3E\uFD3F\uFE10-\uFE6F\uFF00-\uFF0F\uFFF0-\uFFFF"
)
ASCII_BETWEEN = r"\u0001-/:-`{-\u007F"  # of a lower-case text
IGNORED = r"\u00AD\u0300-\u036F\u200B-\u200D\u2060\uFE00-\uFE0F\uFEFF"  # accents, joiners, variation selectors
MAX_TOKEN_LENGTH = 100  # a tsvector takes no word above 2,046 bytes; whoever looks for a longer one finds its beginning


def upgrade() -> None:
    # The database's own `lower` may know ASCII only. Version 17 and later bring the rules of Unicode along, others ICU.
    op.execute(
        rf"""
        DO $do$
        DECLARE
            rules text := coalesce(
                (SELECT quote_ident(collname) FROM pg_collation
                 WHERE collname IN ('pg_c_utf8', 'und-x-icu', 'C.utf8') AND collnamespace = 'pg_catalog'::regnamespace
                 ORDER BY array_position(ARRAY['pg_c_utf8', 'und-x-icu', 'C.utf8'], collname::text) LIMIT 1),
                '"default"');
        BEGIN
            EXECUTE format($format$
                CREATE FUNCTION search_folded(input text) RETURNS text
                LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
                RETURN CASE WHEN octet_length(input) = char_length(input) THEN lower(input COLLATE pg_catalog.%1$s) ELSE
                    normalize(regexp_replace(
                        normalize(lower(normalize(input, NFKC) COLLATE pg_catalog.%1$s), NFKD), '[{IGNORED}]+', '', 'g'
                    ), NFKC) END
            $format$, rules);
        END
        $do$
        """  # noqa: S608
    )
    # A word counts one place, a run of unspaced characters one for each. `pair` is null where the run ends. A pair
    # never spans a separator.
    op.execute(
        rf"""
        CREATE FUNCTION search_tokens(input text)
        RETURNS TABLE (token text, pair text, place bigint, is_alone boolean, is_word boolean)
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        BEGIN ATOMIC
            WITH chunks AS (
                SELECT chunk, n, chunk ~ '^[{UNSPACED}]' AS is_run
                FROM string_to_table(regexp_replace(regexp_replace(
                    search_folded(input), '[{ASCII_BETWEEN}{BETWEEN}]+', ' ', 'g'
                ), '([{UNSPACED}]+)', ' \1 ', 'g'), ' ') WITH ORDINALITY AS t(chunk, n)
                WHERE chunk <> ''
            ), placed AS (
                SELECT chunk, is_run, char_length(chunk) AS length, n,
                    sum(CASE WHEN is_run THEN char_length(chunk) ELSE 1 END) OVER (ORDER BY n) AS last_place
                FROM chunks
            )
            SELECT left(chunk, {MAX_TOKEN_LENGTH}), NULL::text, last_place, true, true FROM placed WHERE NOT is_run
            UNION ALL
            SELECT c, c || lead(c) OVER (PARTITION BY n ORDER BY i), last_place - length + i, length = 1, false
            FROM placed, string_to_table(chunk, NULL) WITH ORDINALITY AS t(c, i) WHERE is_run;
        END
        """  # noqa: S608
    )
    # The database's own parser does the same for ASCII, several times faster; it only takes 1e5e for two words, and
    # leaves out overlong ones.
    op.execute(
        rf"""
        CREATE FUNCTION search_words(input text) RETURNS tsvector
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        RETURN CASE
            WHEN octet_length(input) = char_length(input)
                AND input !~ '[0-9][eE]|[a-zA-Z0-9]{{{MAX_TOKEN_LENGTH + 1}}}' COLLATE "C"
            THEN to_tsvector('pg_catalog.simple', regexp_replace(search_folded(input), '[{ASCII_BETWEEN}]+', ' ', 'g'))
            ELSE (
                SELECT coalesce(string_agg(
                    '''' || token || ''':' || place || coalesce(' ''' || pair || ''':' || place, ''), ' '
                ), '')::tsvector FROM search_tokens(input)
            ) END
        """  # noqa: S608
    )
    # Each term is a phrase of its tokens, and all terms must be there. Null: nothing to look for.
    op.execute("""
        CREATE FUNCTION search_query(terms text[], is_open boolean) RETURNS tsquery
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        BEGIN ATOMIC
            WITH lexemes AS (
                SELECT n, place, is_word, CASE WHEN is_alone THEN token ELSE pair END AS lexeme
                FROM unnest(terms) WITH ORDINALITY AS t(term, n), search_tokens(term) WHERE is_alone OR pair IS NOT NULL
            ), linked AS (
                SELECT n, place,
                    coalesce('<' || place - lag(place) OVER (PARTITION BY n ORDER BY place) || '>', '')
                    || '''' || lexeme || ''''
                    || CASE WHEN is_open AND is_word AND row_number() OVER (ORDER BY n DESC, place DESC) = 1 THEN ':*'
                        ELSE '' END AS link
                FROM lexemes
            ), phrases AS (
                SELECT '(' || string_agg(link, '' ORDER BY place) || ')' AS phrase FROM linked GROUP BY n
            )
            SELECT string_agg(phrase, '&')::tsquery FROM phrases;
        END
    """)
    op.execute("""
        CREATE TABLE message_words (
            conversation uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
            seq bigint NOT NULL,
            at timestamptz NOT NULL,                -- of the message, as are the next two: so that the newest are found
            id uuid NOT NULL,                       -- before anything else is read
            model text,                             -- whose answer this is; null when a person wrote it
            words tsvector NOT NULL,
            PRIMARY KEY (conversation, seq)
        )
    """)
    op.execute("CREATE INDEX message_words_words ON message_words USING gin (words)")
    op.execute("""
        CREATE TABLE search_cursors (
            conversation uuid PRIMARY KEY REFERENCES conversations ON DELETE CASCADE,
            seq bigint NOT NULL                     -- the log has been read up to here
        ) WITH (fillfactor = 50)
    """)


def downgrade() -> None:
    op.execute("DROP TABLE search_cursors, message_words")
    op.execute(
        "DROP FUNCTION search_query(text[], boolean), search_words(text), search_tokens(text), search_folded(text)"
    )
