#!/usr/bin/env escript
%%! -noinput
%% Evaluates Erlang for the tests, one expression a frame, until its input ends.
%% A frame in: uint32 length, uint32 length of Data, Data, the source of an expression (UTF-8) in which Data is bound.
%% A frame out: uint32 length, then "=" and the binary that the expression gave, or "!" and what went wrong.
main(_) ->
    Port = open_port({fd, 0, 1}, [{packet, 4}, binary, eof]),
    serve(Port).

serve(Port) ->
    receive
        {Port, {data, <<Size:32, Data:Size/binary, Source/binary>>}} ->
            port_command(Port, answer(Data, Source)),
            serve(Port);
        {Port, eof} ->
            ok
    end.

answer(Data, Source) ->
    try evaluate(Data, Source) of
        Binary when is_binary(Binary) -> [$=, Binary];
        Other -> [$!, show(Other)]
    catch
        _:Reason -> [$!, show(Reason)]
    end.

evaluate(Data, Source) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Source, "."])),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Expressions, [{'Data', Data}]),
    Value.

show(Term) ->
    unicode:characters_to_binary(io_lib:format("~tp", [Term])).
