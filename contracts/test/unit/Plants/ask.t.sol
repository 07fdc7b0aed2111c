// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsAsk is Planted {
    function test_ask__answered_in_time__costs_nothing() public {
        (IPlants.Result memory result, bytes32[] memory proof) = _revealed(IPlants.Verdict.Fail);
        plants.ask(plantHash, 1);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyAsked.selector, judges[1]));
        plants.ask(plantHash, 1);
        plants.answer(plantHash, 1, _duty(1), result, proof);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyAnswered.selector, judges[1]));
        plants.ask(plantHash, 1);
        assertEq(staking.slashable(judges[1]), STAKE);
    }

    function test_ask__by_another_late_or_without_a_root__reverts() public {
        _revealed(IPlants.Verdict.Pass);
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotPlanter.selector, owner));
        plants.ask(plantHash, 1);
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotOnDuty.selector, judges[2], plantEpoch));
        plants.ask(plantHash, 2);
        skip(41);
        vm.expectPartialRevert(IPlants.WindowOver.selector);
        plants.ask(plantHash, 1);
    }
}
