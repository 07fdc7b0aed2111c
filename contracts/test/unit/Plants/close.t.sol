// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsClose is Planted {
    function test_close__asked_and_silent__costs_stake() public {
        _revealed(IPlants.Verdict.Pass);
        vm.expectPartialRevert(IPlants.NotYet.selector);
        plants.close(plantHash, 1);
        plants.ask(plantHash, 1);
        vm.expectPartialRevert(IPlants.NotYet.selector);
        plants.close(plantHash, 1);
        skip(41);
        plants.close(plantHash, 1);
        assertEq(uint8(plants.answerOf(plantHash, judges[1])), uint8(IPlants.Answer.Silent));
        assertEq(staking.slashable(judges[1]), STAKE - FINE);
        assertEq(plants.recordOf(judges[1]).missed, 1);
    }

    function test_close__answered_in_time__reverts() public {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(IPlants.Verdict.Fail);
        plants.ask(plantHash, 1);
        plants.answer(plantHash, 1, _duty(1), result, proof);
        skip(41);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyAnswered.selector, judges[1]));
        plants.close(plantHash, 1);
        assertEq(staking.slashable(judges[1]), STAKE);
    }
}
