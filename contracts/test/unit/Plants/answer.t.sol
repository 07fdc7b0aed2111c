// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsAnswer is Planted {
    function test_answer__a_pass__costs_stake_once() public {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(IPlants.Verdict.Pass);
        plants.answer(plantHash, 1, _duty(1), result, proof);
        assertEq(uint8(plants.answerOf(plantHash, judges[1])), uint8(IPlants.Answer.Passed));
        assertEq(staking.slashable(judges[1]), STAKE - FINE);
        IPlants.Record memory r = plants.recordOf(judges[1]);
        assertEq(r.drawn, 1);
        assertEq(r.missed, 1);
        bytes memory duty = _duty(1);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyAnswered.selector, judges[1]));
        plants.answer(plantHash, 1, duty, result, proof);
        _assertLedgers();
    }

    function test_answer__found_or_undecided__is_recorded_and_costs_nothing() public {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(IPlants.Verdict.Withheld);
        uint256 before = vm.snapshotState();
        plants.answer(plantHash, 1, _duty(1), result, proof);
        assertEq(plants.recordOf(judges[1]).found, 1);
        assertEq(staking.slashable(judges[1]), STAKE);
        vm.revertToState(before);
        // A root says one thing only.
        bytes memory duty = _duty(1);
        result.verdict = IPlants.Verdict.Inconclusive;
        vm.expectRevert(IPlants.WrongResult.selector);
        plants.answer(plantHash, 1, duty, result, proof);
    }

    function test_answer__undecided__is_counted_and_spared_once() public {
        _answeredFirst(IPlants.Verdict.Inconclusive);
        IPlants.Record memory r = plants.recordOf(judges[1]);
        assertEq(r.undecided, 1);
        assertEq(r.debt, 1);
        assertEq(staking.slashable(judges[1]), STAKE);
    }

    function test_answer__undecided_again__is_fined_unless_one_was_found_between() public {
        _answeredFirst(IPlants.Verdict.Inconclusive);
        uint256 before = vm.snapshotState();
        _answeredNext(IPlants.Verdict.Inconclusive);
        assertEq(plants.recordOf(judges[1]).debt, 1);
        assertEq(staking.slashable(judges[1]), STAKE - FINE);
        vm.revertToState(before);
        _answeredNext(IPlants.Verdict.Fail);
        assertEq(plants.recordOf(judges[1]).debt, 0);
        _answeredNext(IPlants.Verdict.Inconclusive);
        IPlants.Record memory r = plants.recordOf(judges[1]);
        assertEq(r.undecided, 2);
        assertEq(r.found, 1);
        assertEq(r.debt, 1);
        assertEq(staking.slashable(judges[1]), STAKE);
    }

    function test_answer__found__makes_up_for_no_later_one() public {
        _answeredFirst(IPlants.Verdict.Fail);
        assertEq(plants.recordOf(judges[1]).debt, 0);
        _answeredNext(IPlants.Verdict.Inconclusive);
        assertEq(staking.slashable(judges[1]), STAKE);
        _answeredNext(IPlants.Verdict.Inconclusive);
        assertEq(staking.slashable(judges[1]), STAKE - FINE);
    }

    function test_answer__for_another_receipt_seat_or_signature__reverts() public {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(IPlants.Verdict.Fail);
        bytes memory duty = _duty(1);
        vm.expectRevert(abi.encodeWithSelector(IPlants.BadDutySignature.selector, plantEpoch, 2));
        plants.answer(plantHash, 2, duty, result, proof);
        vm.expectPartialRevert(IPlants.NotOnDuty.selector);
        plants.answer(plantHash, 9, duty, result, proof);
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotRevealed.selector, bytes32("none")));
        plants.answer("none", 1, duty, result, proof);
        result.number = 7;
        vm.expectRevert(IPlants.WrongResult.selector);
        plants.answer(plantHash, 1, duty, result, proof);
        proof[0] = "wrong";
        result.number = 1;
        vm.expectRevert(IPlants.WrongResult.selector);
        plants.answer(plantHash, 1, duty, result, proof);
    }

    function test_answer__not_drawn__owes_no_result() public {
        _note();
        // A long record: the rate has fallen to the floor.
        vm.prank(operator);
        commitments.anchor("root", 1, 1 << 20, 1, 1);
        skip(51);
        commitments.mature(owner, 0);
        _convict();
        skip(10);
        plants.reveal(planted, SALT, _consent());
        IPlants.Result memory none;
        plants.answer(plantHash, 1, _duty(1), none, new bytes32[](0));
        assertEq(uint8(plants.answerOf(plantHash, judges[1])), uint8(IPlants.Answer.NotDrawn));
        assertEq(plants.recordOf(judges[1]).drawn, 0);
        assertEq(staking.slashable(judges[1]), STAKE);
    }
}
