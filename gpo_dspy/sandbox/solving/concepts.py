"""The concepts a simulated solver understands, as stems and not as sentences.

One line is one way to express a concept: its sign (0: a turn of phrase that only looks like it),
then groups of stems divided by ``|``, all of
which have to occur in one clause, in any order. ``_`` stands for a space. The first group is the
action: a negation before it turns the sign around, so that ``- remov`` reads "do not remove" as
the opposite of "remove". Of the lines of one concept the first that fits a clause decides.
"""

from __future__ import annotations

CONCEPTS: dict[str, str] = {
    # what the parts of the answer are
    "all_letters": """
        + compar look consider check use order sort go continu examin move | every_letter
          each_letter all_letter all_the_letter all_of_the_letter whole_word entire_word full_word
          letter_by_letter letter-by-letter character_by_character second_letter second_one
          next_letter following_letter subsequent later_letter third full_spelling
          complete_spelling whole_spelling entire_spelling beyond_the_first tie
        - only just stop compar look rely consider sort judg | first_letter initial first_character
        + dictionary_order lexicograph
    """,
    "duplicates": """
        - remov drop merg delet eliminat discard collaps dedup omit skip los filter distinct ignor
          only_once just_once | duplicate repeated repetition copies distinct twice dedup
          more_than_once
        + keep retain preserv includ list repeat writ output mention show leave maintain |
          duplicate repeated repetition more_than_once twice several_times as_often
          as_many_times same_number_of_times multiple_times each_occurrence every_occurrence
        - unique dedup | word item entr thing list
    """,
    "complete": """
        0 leav omit skip drop ignor | irrelevan unrelated not_matter already nothing_to_do
        + leaving_none leave_none leaving_nothing leave_nothing omit_none omit_nothing |
        - drop omit skip leav left forget miss_any miss_a miss_the stop los overlook neglect cut
          abbreviat |
          word item step element thing anything part end early before halfway half-way short last
          instruction any some out move operation nothing
        + includ go evaluat list cover process read follow account consider contain check continu
          work mention carr reach finish execut clos until appear use simplif | every_word
          every_item every_element every_single every_one each_word each_item each_move each_step
          every_step
          every_move every_operation every_instruction every_bracket all_word all_the_word all_item
          all_the all_of_the all_step all_bracket all_instruction whole entire complete_list
          complete_expression full_list full_expression to_the_end the_very_end last
        + same_number as_many | input original given output
        + nothing none no_word no_item no_step | missing left_out omitted lost forgotten skipped
    """,
    "ignore_case": """
        + without_regard | case upper capital
        - case_sensitiv case-sensitiv capital_letters_first uppercase_first capitals_first | case
          first
        + ignor regardless disregard irrespectiv independent same equal alike lowercase lower-case
          insensitiv treat matter neglect | capital uppercase upper-case upper_case lower_case
          lowercase lower-case letter_case case
        - distinguish respect separat first before | capital uppercase upper-case upper_case
    """,
    "quantities": """
        - count treat | kind_only only_the_kind each_kind_once as_one_regardless only_once
        + add sum total use count includ mention stat consider multipl tak note writ account giv
          read name with | quantit amount how_many number_of_each number_in_front number_word
          number_before each_number every_number the_number all_number exact_number figure
          multiplicit
    """,
    "only_asked": """
        + only just restrict limit solely belong exclud filter leave_out skip ignor select pick |
          asked_for asked_about categor requested kind_that_is type_that_is relevant named_in
          question_asks question_is_about other_kind other_thing different_kind unrelated_thing
          do_not_belong not_belong
        - count includ | everything all_objects_of_any any_category irrespective_of_category
    """,
    "articles": """
        + article a_or_an an_or_a 'a' "a" a/an 'an' "an" without_a_number without_number
          no_number | one single once 1
    """,
    "digits": """
        + digit numeral figures integer arabic | answer number writ result output giv as in use
          express total count
        - spell words letters | number count total
    """,
    # expressions
    "precedence": """
        - left_to_right left-to-right from_the_left | strict simply just evaluat work go comput read
          apply calculat order never
        + before first prior precedence higher tight strong priorit bind order | not_before
          and_before before_or precedence multipl operator product times operation
    """,
    "parentheses": """
        + first inner start separat own begin before resolv respect evaluat work comput solv handl
          respect | parenthes bracket nested group_in inside_the
        - ignor drop remov skip | parenthes
    """,
    "double_negation": """
        + cancel even odd pair each every twice undo flip apply count invert one_by_one |
          nots negation two_not not_not double_not repeated_not each_not every_not 'not' "not"
    """,
    "signs": """
        + careful watch mind track attention keep subtract minus remember handl mistak los preserv |
          sign signs negative minus_minus
    """,
    "calculate": """
        + calculat comput work check verif writ recomput careful re-check | each_calculation
          each_result every_result intermediate each_step_result arithmetic calculation
          every_calculation each_computation every_multiplication sums running_total result_of_each
          after_each
    """,
    # dates
    "month_lengths": """
        + use real actual consider know remember account mind respect correct true exact check |
          days_of_each_month days_in_each_month length_of_each_month length_of_the_month
          month_length leap lengths_of_the_month number_of_days_in days_each_month 28 31
          calendar_month real_calendar lengths_of_month
        - assum treat | 30_days thirty_days
    """,
    "start_day": """
        + start begin count | day_after tomorrow next_day following_day
        - count includ | today_itself starting_day start_day first_day current_day today
    """,
    "carry_year": """
        + chang adjust increas updat carr roll switch mov check advanc | year
    """,
    "direction": """
        + back subtract before earlier past backward | ago
        + direction | time date
    """,
    "date_form": """
        + form writ format giv output us answer month_first express | mm/dd/yyyy mm/dd two_digits
          two-digit month_first month_before slashes
    """,
    # brackets
    "reverse": """
        + revers last-in backward most_recent latest last_opened innermost opposite stack newest |
          order first clos open out bracket stack
    """,
    "skip_closed": """
        + skip ignor disregard cross_out already remov pair match only leave | already_closed
          closed_already already_matched matched_pair closed_pair still_open are_open remain_open
          unclosed unmatched already_paired
    """,
    "matching": """
        + match same correspond fit right correct | type kind counterpart shape partner
          opening_one its_opening opening_bracket
    """,
    "only_rest": """
        - repeat copy restat reproduc | input given sequence original
        + only just solely nothing_but | missing rest closing remaining continuation
    """,
    "spaces": """
        + space spaces blank whitespace | separat between divid single use put with join one
        - comma | separat use put insert add between
    """,
    # walks
    "heading": """
        + track remember updat note keep follow know maintain record consider account | facing
          direction heading orientation turn face
        - ignor | turn direction
    """,
    "around": """
        + revers 180 opposite half_turn back flip | around turnaround u-turn
    """,
    "position": """
        + track keep use coordinat updat add count sum record note comput | coordinat position
          location x_and_y number_of_steps distance how_many_steps steps_in_each
    """,
    "yes_no": """
        + answer reply respond yes output return writ say giv | yes_or_no 'yes' "yes" yes/no
          either_yes
    """,
    "true_false": """
        + answer reply respond true output return writ say giv | true_or_false 'true' "true"
          true/false either_true
    """,
    # stories and plans
    "in_order": """
        + order sequence chronolog one_after | happen story events steps operations told occur same
          text keep appear chronolog
    """,
    "irrelevant": """
        + ignor disregard leave skip irrelevan exclud only avoid filter | irrelevan unrelated
          do_not_matter does_not_matter not_matter nothing_to_do not_needed not_affect unnecessary
          that_change relevant side_fact distract
    """,
    "follow_plan": """
        + follow carry execut stick work apply use | plan
    """,
    # the form of the answer
    "bare": """
        - add includ giv writ explain output append put surround wrap use | explanation comment
          extra additional other_text any_text sentence label else more_text around_it
        + only just nothing_but nothing_else solely bare alone without_any no_other plain |
          answer output reply respond response return print final giv provid stat writ
    """,
    # general habits, good or bad
    "step_by_step": """
        + step_by_step step-by-step think_carefully show_your_work one_step_at_a_time |
          think work go proceed reason solv let step show carefully
    """,
    "verify": """
        + double-check double_check verif review recheck re-check check | answer result work again
          before before_answering solution everything yourself
    """,
    "concise": "+ concise succinct short terse compact to_the_point | answer be keep reply as",
    "brief": "+ one_word single_word brief briefly very_short few_words |",
    "creative": "+ creativ imaginativ original_way inventiv playful |",
    "explain": """
        + explain justif describ elaborat | reason answer why how detail thought process
          full
    """,
    "left_to_right": "+ left_to_right left-to-right from_left |",
    "by_length": "+ sort order arrang | length shortest longest",
    "group": "+ group categoris categoriz cluster | kind type similar item word same together",
    "simplify": "+ simplif shorten reduce | expression first before input problem",
    "estimate": "+ estimat approximat rough round |",
    "inclusive": "+ includ count | both_ends today starting_day first_day inclusive",
    "expert": "+ expert professional assistant specialist | you are as act",
}
